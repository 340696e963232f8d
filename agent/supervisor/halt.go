package supervisor

import (
	"context"
	"errors"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
)

const (
	defaultSignal = "SIGTERM"
	defaultGrace  = 10 * time.Second
)

// exited leads to ended after the user's code has ended. A verdict that stood
// before the exit counts.
func (s *stretch) exited(ctx context.Context, verdict *Outcome, exit runtime.Exit) error {
	if err := s.drain(ctx); err != nil {
		return err
	}
	s.look()
	s.fetch(ctx)
	var o Outcome
	if verdict != nil {
		o = *verdict
		o.Exited, o.ExitCode = true, exit.Code
	} else {
		o = ofExit(exit, s.w.entry.Assignment.Step.Completion, s.final)
	}
	o.FinishedAt = exit.At
	return s.w.finish(o, s)
}

// drain waits until the log of user code that has ended is read.
func (s *stretch) drain(ctx context.Context) error {
	if s.drained {
		return nil
	}
	timer := time.NewTimer(readOn)
	defer timer.Stop()
	var err error
	select {
	case err = <-s.read:
	case <-timer.C:
		err = errors.New("the engine does not answer")
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		s.w.log.Say("the end of the log could not be read: %v", err)
	}
	return nil
}

// halt leads from stopping to ended: it stops user code for a reason that is
// settled already, and reads what it still says.
func (w *worker) halt(ctx context.Context) error {
	rt, err := w.runtime()
	if err != nil {
		return w.finish(*w.entry.Verdict, nil)
	}
	s := w.newStretch(ctx, rt)
	defer s.end()
	s.file = w.entry.Report
	step := w.entry.Assignment.Step
	signal, grace := step.CancelSignal, step.CancelGrace
	if signal == "" {
		signal = defaultSignal
	}
	if grace <= 0 {
		grace = defaultGrace
	}
	if v := w.entry.Verdict; v.State == ci.AttemptSucceeded || v.Reason == ci.ReasonReportedFailure {
		grace = min(grace, reportGrace) // it has said itself that it is over
	}
	if err := w.sup.forever(ctx, "stop attempt "+string(w.id), func() error {
		return rt.Stop(ctx, w.entry.Handle, signal, grace)
	}); err != nil {
		return err
	}
	o := *w.entry.Verdict
	o.FinishedAt = time.Now()
	timer := time.NewTimer(exitWait)
	defer timer.Stop()
	select {
	case exit := <-s.exit:
		o.Exited, o.ExitCode, o.FinishedAt = true, exit.Code, exit.At
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.drain(ctx); err != nil {
		return err
	}
	s.look()
	return w.finish(o, s)
}

// finish settles the outcome and leads to ended. s is nil where no user code ran.
func (w *worker) finish(o Outcome, s *stretch) error {
	if o.FinishedAt.IsZero() {
		o.FinishedAt = time.Now()
	}
	if s != nil {
		outputs, unreadable := s.files.outputs()
		o.settle(outputs, unreadable, s.last)
		for _, err := range append(s.files.problems(), unreadable) {
			if err != nil {
				w.log.Say("%v", err)
			}
		}
	}
	if o.Message != "" && o.State != ci.AttemptSucceeded {
		w.log.Say("%s: %s", o.State, o.Message)
	}
	manifest, err := w.log.Manifest()
	if err != nil {
		w.rlog.Error("the end of a log is lost", "error", err)
	}
	return w.move(StageEnded, func(e *Entry) {
		e.Outcome, e.Manifest = &o, manifest
		if s != nil {
			e.Report = s.file
		}
	})
}
