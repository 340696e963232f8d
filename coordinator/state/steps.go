package state

import (
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// liveState is what users see of a step whose attempt is a, as long as the
// engine has not ended it.
func liveState(a *ci.Attempt) ci.StepState {
	switch {
	case a.State.Terminal() && a.State >= ci.AttemptUnaccepted:
		return ci.StepQueued // again, unless the engine says otherwise
	case a.State.Terminal(), a.State == ci.AttemptReporting:
		return ci.StepReporting
	case a.Want != ci.WantRun:
		return ci.StepCanceling
	case a.State == ci.AttemptQueued:
		return ci.StepQueued
	case a.State < ci.AttemptPreparing:
		return ci.StepAssigned
	case a.State == ci.AttemptPreparing:
		return ci.StepPreparing
	default:
		return ci.StepRunning
	}
}

// show brings what users see of an open step in line with its last attempt.
func show(s *ci.StepRun) {
	a := s.Last()
	if a == nil || s.State.Terminal() {
		return
	}
	s.State = liveState(a)
	if s.StartedAt.IsZero() {
		s.StartedAt = a.StartedAt
	}
}

// closeAttempt ends an attempt that no agent has accepted.
func closeAttempt(a *ci.Attempt, reason ci.Reason, message string, wall time.Time) {
	a.State, a.Reason, a.Message, a.FinishedAt = ci.AttemptCanceled, reason, message, wall
}

// unaccepted reports whether no agent has accepted the attempt, so that it can
// end without anybody's word.
func unaccepted(a *ci.Attempt) bool { return a.State <= ci.AttemptAssigned }

func (o *EndStep) apply(x *tx) error {
	r, i, err := x.step(o.Run, o.Step)
	if err != nil {
		return err
	}
	s := r.Steps[i]
	if err := o.check(r, s); err != nil {
		return err
	}
	if s.State.Terminal() {
		return nil // a replay
	}
	e := x.edit(r)
	t := e.step(i)
	if a := t.Last(); a != nil && a.State == ci.AttemptQueued {
		closeAttempt(e.attempt(i, len(t.Attempts)-1), o.Reason, o.Message, x.stamp.Wall)
	}
	t.State, t.Reason, t.Message, t.Result, t.FinishedAt = o.State, o.Reason, o.Message, o.Result, x.stamp.Wall
	switch o.State {
	case ci.StepPassed:
		t.Outputs = Outputs(&r.Workflow.Steps[i], t.Attempt(o.Result))
	case ci.StepSkipped:
		t.Outputs = nil
	default: // those of the last passed generation stay
	}
	e.save()
	return nil
}

// check refuses an end that does not follow from where the step stands.
func (o *EndStep) check(r *ci.Run, s *ci.StepRun) error {
	if o.Generation != s.Generation {
		return ci.Errorf(ci.Conflict, "cannot end generation %d of step %s of run %s: it is at %d", o.Generation, s.ID, r.ID, s.Generation)
	}
	if s.State.Terminal() {
		if s.State == o.State && s.Reason == o.Reason && s.Result == o.Result {
			return nil
		}
		return ci.Errorf(ci.Conflict, "cannot make step %s of run %s %s: it is %s", s.ID, r.ID, o.State, s.State)
	}
	if !o.State.Terminal() {
		return ci.Errorf(ci.Invalid, "cannot end step %s of run %s as %q", s.ID, r.ID, o.State)
	}
	last := s.Last()
	if last != nil && last.Decided() == 0 && (last.State != ci.AttemptQueued || o.Result != "") {
		return ci.Errorf(ci.Conflict, "cannot end step %s of run %s: its attempt %d is %s", s.ID, r.ID, last.Number, last.State)
	}
	if o.Result != "" && (last == nil || last.ID != o.Result) {
		return ci.Errorf(ci.Conflict, "cannot end step %s of run %s: %s is not its latest attempt", s.ID, r.ID, o.Result)
	}
	if o.State == ci.StepPassed && (o.Result == "" || last.Decided() != ci.AttemptSucceeded) {
		return ci.Errorf(ci.Conflict, "cannot let step %s of run %s pass: no attempt of it succeeded", s.ID, r.ID)
	}
	return nil
}

// Outputs maps what an attempt set to the names that the step declares. A step
// that declares none gives all it set.
func Outputs(def *ci.Step, a *ci.Attempt) map[string]string {
	if len(def.Outputs) == 0 {
		return a.Outputs
	}
	out := make(map[string]string, len(def.Outputs))
	for name, key := range def.Outputs {
		if v, ok := a.Outputs[key]; ok {
			out[name] = v
		}
	}
	return out
}

func (o *CancelStep) subject(t *tables) (ci.TenantID, string, bool) { return runSubject(t, o.Run) }

func (o *CancelStep) apply(x *tx) error {
	r, i, err := x.step(o.Run, o.Step)
	if err != nil {
		return err
	}
	s := r.Steps[i]
	last := s.Last()
	switch {
	case s.State == ci.StepCanceled:
		return nil
	case s.State.Terminal():
		return ci.Errorf(ci.Conflict, "cannot cancel step %s of run %s: it is over (%s)", s.ID, r.ID, s.State)
	case last != nil && last.Want != ci.WantRun && last.Live():
		return nil
	case last != nil && last.Decided() != 0:
		return ci.Errorf(ci.Conflict, "cannot cancel step %s of run %s: attempt %d has just ended (%s); look again", s.ID, r.ID, last.Number, last.Decided())
	}
	e := x.edit(r)
	e.stop(i, ci.ReasonCanceledUser, o.Note)
	if last == nil || unaccepted(last) {
		t := e.step(i)
		t.State, t.Reason, t.Message, t.FinishedAt = ci.StepCanceled, ci.ReasonCanceledUser, o.Note, x.stamp.Wall
	}
	e.save()
	x.recordStep(r, s, e.run.Steps[i], o.Note)
	return nil
}

// stop ends the last attempt of a step when no agent has accepted it, or tells
// its agent to.
func (e *edit) stop(i int, reason ci.Reason, note string) {
	s := e.step(i)
	if s.Last() == nil || !s.Last().Live() {
		return
	}
	a := e.attempt(i, len(s.Attempts)-1)
	if unaccepted(a) {
		closeAttempt(a, reason, note, e.x.stamp.Wall)
	} else if a.Want == ci.WantRun {
		a.Want, a.WantReason = ci.WantCancel, reason
	}
	show(s)
}

// recordStep is the audit of a person's change of a step.
func (x *tx) recordStep(r *ci.Run, before, after *ci.StepRun, note string) {
	x.record(ci.AuditEntry{
		Tenant: r.Tenant, Run: r.ID, Step: before.ID, SHA: r.Source.SHA, Reason: note,
		Before: string(before.State), After: string(after.State),
	}, false)
}
