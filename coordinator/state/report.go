package state

import (
	"maps"
	"slices"

	"github.com/slipway-ci/slipway/shared/ci"
)

func (o *Progress) apply(x *tx) error {
	for _, it := range o.Items {
		r, i, j, err := x.attempt(it.Run, it.Step, it.Attempt)
		if err != nil || x.owns(r.Steps[i].Attempts[j], it.Fence, it.Agent, it.Incarnation) != nil {
			continue
		}
		e := x.edit(r)
		if it.write(e, i, j) {
			e.save()
		}
	}
	return nil
}

// write reports whether the item told anything new.
func (it *ProgressItem) write(e *edit, i, j int) bool {
	a := e.run.Steps[i].Attempts[j]
	if !held(a) || a.State < ci.AttemptAccepted {
		return false
	}
	b := *a
	if it.State == ci.AttemptPreparing || it.State == ci.AttemptRunning || it.State == ci.AttemptReporting {
		b.State, _ = b.State.Next(it.State)
	}
	if b.StartedAt.IsZero() {
		b.StartedAt = it.StartedAt
	}
	if it.Progress > b.Progress && it.Progress <= 1 {
		b.Progress = it.Progress
	}
	if it.Note != "" {
		b.Note = it.Note
	}
	if b.ImageDigest == "" {
		b.ImageDigest = it.ImageDigest
	}
	if b.State == a.State && b.StartedAt.Equal(a.StartedAt) && b.Progress == a.Progress && b.Note == a.Note && b.ImageDigest == a.ImageDigest {
		return false
	}
	*e.attempt(i, j) = b
	show(e.step(i))
	return true
}

func (o *ReportAttempt) apply(x *tx) error {
	r, i, j, err := x.attempt(o.Run, o.Step, o.Attempt)
	if err != nil {
		return err
	}
	a := r.Steps[i].Attempts[j]
	if err := x.owns(a, o.Fence, o.Agent, o.Incarnation); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	if a.State.Terminal() {
		if a.State == o.Outcome && a.Exited == o.Exited && a.ExitCode == o.ExitCode {
			return nil
		}
		// Never a change of the run, but worth knowing: the work was done twice,
		// or after it was given up.
		x.record(ci.AuditEntry{
			Action: "late_result", Tenant: r.Tenant, Run: r.ID, Step: o.Step, SHA: r.Source.SHA,
			Reason: string(o.Reason), Before: a.State.String(), After: o.Outcome.String(),
		}, true)
		return ci.Errorf(ci.Conflict, "cannot take the report of attempt %s: it is over (%s)", a.ID, a.State)
	}
	if o.Phase == PhaseExited && a.Outcome != 0 {
		if a.Outcome == o.Outcome && a.ExitCode == o.ExitCode {
			return nil
		}
		return ci.Errorf(ci.Conflict, "cannot take the report of attempt %s: it has exited already (%s)", a.ID, a.Outcome)
	}
	final := r.Workflow.Steps[i].DecidesAtFinal()
	to := o.target(a, final)
	_, ok := a.State.Next(to)
	// Nothing can exit before its accept is committed; and one that is known to
	// be reporting may well say so again.
	ok = ok && (o.Phase != PhaseExited || a.State >= ci.AttemptAccepted) || a.State == to
	if !ok {
		return ci.Errorf(ci.Conflict, "cannot make attempt %s %s: it is %s", a.ID, to, a.State)
	}
	e := x.edit(r)
	o.write(x, e.attempt(i, j), to, final)
	show(e.step(i))
	e.save()
	return nil
}

func (o *ReportAttempt) check() error {
	ok := false
	switch o.Phase {
	case PhaseRejected:
		ok = o.Outcome == ci.AttemptRejected
	case PhaseExited, PhaseFinal:
		switch o.Outcome {
		case ci.AttemptSucceeded, ci.AttemptFailed, ci.AttemptCanceled, ci.AttemptTimedOut, ci.AttemptLost:
			ok = true
		default: // not an end that an agent may tell
		}
	}
	if !ok {
		return ci.Errorf(ci.Invalid, "cannot take the report of attempt %s: outcome %s does not go with phase %q", o.Attempt, o.Outcome, o.Phase)
	}
	return nil
}

// target returns the state that the report leads to.
func (o *ReportAttempt) target(a *ci.Attempt, decidesAtFinal bool) ci.AttemptState {
	switch {
	case o.Phase == PhaseExited:
		return ci.AttemptReporting
	case o.Phase == PhaseRejected:
		return ci.AttemptRejected
	case a.Outcome != 0 && !decidesAtFinal:
		return a.Outcome // committed at the exit; others have built on it
	default:
		return o.Outcome
	}
}

func (o *ReportAttempt) write(x *tx, a *ci.Attempt, to ci.AttemptState, decidesAtFinal bool) {
	decides := a.Outcome == 0 || decidesAtFinal
	a.State = to
	if o.Phase == PhaseExited {
		a.Outcome = o.Outcome
	}
	if decides {
		a.Reason, a.Message = o.Reason, o.Message
		a.Exited, a.ExitCode = o.Exited, o.ExitCode
		if o.Outputs != nil {
			a.Outputs = maps.Clone(o.Outputs)
		}
	}
	if o.Log != (ci.LogManifest{}) {
		a.Log = o.Log
	}
	if o.Artifacts != nil {
		a.Artifacts = slices.Clone(o.Artifacts)
	}
	if !o.StartedAt.IsZero() {
		a.StartedAt = o.StartedAt
	}
	if !o.FinishedAt.IsZero() {
		a.FinishedAt = o.FinishedAt
	}
	if a.FinishedAt.IsZero() && to.Terminal() {
		a.FinishedAt = x.stamp.Wall
	}
	if o.ImageDigest != "" {
		a.ImageDigest = o.ImageDigest
	}
}
