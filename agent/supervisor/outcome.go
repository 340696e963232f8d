package supervisor

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

// ofExit decides how an attempt ended whose user code has ended by itself. The
// step's own final report counts as the first of the two where the step
// completes by reports at all; a reported failure beats exit 0.
func ofExit(e runtime.Exit, c ci.Completion, r *logpath.Report) Outcome {
	o := Outcome{Exited: true, ExitCode: e.Code}
	switch {
	case e.Reason == ci.ReasonDockerRestarted || e.Reason == ci.ReasonInfra || e.Reason == ci.ReasonSelfFenced:
		// What the code would have said is not known, and no fault of its.
		o = Outcome{State: ci.AttemptLost, Reason: e.Reason, Message: e.Message}
	case c != ci.CompletionExit && r != nil && r.State.Final():
		o.State, o.Reason, o.Message = ofReport(*r)
	case e.Reason != ci.ReasonNone:
		o.State, o.Reason, o.Message = ci.AttemptFailed, e.Reason, e.Message
	case e.Code != 0:
		o.State, o.Reason, o.Message = ci.AttemptFailed, ci.ReasonExitCode, fmt.Sprintf("exit code %d", e.Code)
		if e.Message != "" { // the runtime knows why: nothing to execute
			o.Message += ": " + e.Message
		}
	case c == ci.CompletionReport:
		o.State, o.Reason, o.Message = ci.AttemptFailed, ci.ReasonNoReport,
			"the step ended without a final report: write SUCCESS to $SLIPWAY_REPORT_DIR/complete or to $LOG_PATH/complete"
	default:
		o.State = ci.AttemptSucceeded
	}
	return o
}

// ofReport is what a final report says.
func ofReport(r logpath.Report) (ci.AttemptState, ci.Reason, string) {
	if r.State == logpath.ReportFailed {
		message := r.Message
		if message == "" {
			message = "the step reported a failure"
		}
		return ci.AttemptFailed, ci.ReasonReportedFailure, message
	}
	return ci.AttemptSucceeded, ci.ReasonNone, r.Message
}

// ofWant is how an attempt ends that the coordinator does not want any more.
func ofWant(w ci.Want, reason ci.Reason) Outcome {
	if w == ci.WantTimeout {
		if reason == ci.ReasonNone {
			reason = ci.ReasonTimeout
		}
		return Outcome{State: ci.AttemptTimedOut, Reason: reason, Message: "stopped: its time was up"}
	}
	if reason == ci.ReasonNone {
		reason = ci.ReasonCanceledUser
	}
	return Outcome{State: ci.AttemptCanceled, Reason: reason, Message: "canceled"}
}

// ofPrepare is how an attempt ends whose preparation failed: no user code ran.
func ofPrepare(err error) Outcome {
	return Outcome{State: ci.AttemptRejected, Reason: reasonOf(err), Message: err.Error()}
}

// because marks an error with the reason that users see, unless it has one.
func because(reason ci.Reason, err error) error {
	var p *runtime.Problem
	if err == nil || errors.As(err, &p) {
		return err
	}
	return &runtime.Problem{Reason: reason, Err: err}
}

// reasonOf returns the reason that an error is marked with. A full disk is
// one wherever it shows.
func reasonOf(err error) ci.Reason {
	var p *runtime.Problem
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return ci.ReasonDiskFull
	case errors.As(err, &p) && p.Reason != ci.ReasonNone:
		return p.Reason
	default:
		return ci.ReasonInfra
	}
}

// settle completes an outcome by what the step left in its report folder and
// in its reports. Outputs that nobody can read fail a step that passed: what
// follows would run without them.
func (o *Outcome) settle(files map[string]string, unreadable error, r *logpath.Report) {
	o.Outputs = map[string]string{}
	for k, v := range files {
		o.Outputs[k] = v
	}
	if r != nil {
		for k, v := range r.Outputs {
			o.Outputs[k] = v
		}
	}
	if unreadable != nil && o.State == ci.AttemptSucceeded {
		o.State, o.Reason, o.Message = ci.AttemptFailed, ci.ReasonReportedFailure, unreadable.Error()
	}
}
