package state

import (
	"maps"
	"slices"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

func (o *CreateRun) subject(*tables) (ci.TenantID, string, bool) {
	return o.Run.Tenant, string(o.Run.ID), true
}

func (o *CreateRun) apply(x *tx) error {
	if err := checkID("run", string(o.Run.ID)); err != nil {
		return err
	}
	if old, ok := x.t.runs.get(o.Run.ID); ok {
		if old.Tenant == o.Run.Tenant && old.WorkflowHash == o.Run.WorkflowHash && old.CreatedBy == x.actor {
			return nil
		}
		return ci.Errorf(ci.Conflict, "there is another run %s already", o.Run.ID)
	}
	tenant, ok := x.t.tenants.get(o.Run.Tenant)
	if !ok {
		return ci.FieldErrorf(ci.NotFound, "tenant", "there is no tenant %q", o.Run.Tenant)
	}
	w, ok := x.t.workflows.get(o.Run.WorkflowHash)
	if !ok || w.Workflow == nil {
		return ci.Errorf(ci.NotFound, "cannot create run %s: its workflow %s is not stored; send the workflow again", o.Run.ID, o.Run.WorkflowHash)
	}
	for _, id := range slices.Concat(o.Run.Only, o.Run.Skip) {
		if w.Workflow.Step(id) == nil {
			return ci.FieldErrorf(ci.Invalid, "step", "the workflow has no step %q", id)
		}
	}
	r := x.newRun(&o.Run, w.Workflow)
	limit := tenant.MaxQueued
	if limit == 0 {
		limit = ci.DefaultMaxQueued
	}
	waiting, _ := x.t.waiting.get(r.Tenant)
	if n := waitingSteps(r); waiting+n > limit {
		return ci.Errorf(ci.Exhausted, "the queue of tenant %s is full: %d steps wait, this run has %d more and the limit is %d; try again later", r.Tenant, waiting, n, limit)
	}
	x.t.useWorkflow(r.WorkflowHash, 1, x.stamp.Cluster)
	x.putRun(nil, r)
	x.record(ci.AuditEntry{Tenant: r.Tenant, Run: r.ID, SHA: r.Source.SHA, After: string(r.State)}, false)
	return nil
}

// newRun builds the row of a new run.
func (x *tx) newRun(in *ci.Run, w *ci.Workflow) *ci.Run {
	r := &ci.Run{
		ID: in.ID, Tenant: in.Tenant, WorkflowHash: in.WorkflowHash, Workflow: w,
		Source: in.Source, Params: maps.Clone(in.Params),
		Only: slices.Clone(in.Only), Skip: slices.Clone(in.Skip),
		CreatedBy: x.actor, State: ci.RunQueued, Round: 1,
		Created: x.stamp.Cluster, CreatedAt: x.stamp.Wall, Index: x.index,
	}
	r.Steps = make([]*ci.StepRun, len(w.Steps))
	for i := range w.Steps {
		s := &ci.StepRun{ID: w.Steps[i].ID}
		open(r, &w.Steps[i], s, x.stamp.Wall)
		r.Steps[i] = s
	}
	return r
}

// open begins a new generation of a step. One that the file or the caller left
// out stands aside at once.
func open(r *ci.Run, def *ci.Step, s *ci.StepRun, wall time.Time) {
	*s = ci.StepRun{
		ID: s.ID, State: ci.StepPending, Generation: s.Generation + 1,
		Attempts: s.Attempts, Outputs: s.Outputs,
	}
	reason, message := leftOut(r, def)
	if reason == ci.ReasonNone {
		return
	}
	s.State, s.Reason, s.Message, s.Outputs, s.FinishedAt = ci.StepSkipped, reason, message, nil, wall
}

// leftOut says why a step does not take part in the run; no reason when it does.
func leftOut(r *ci.Run, def *ci.Step) (ci.Reason, string) {
	switch {
	case slices.Contains(r.Skip, def.ID):
		return ci.ReasonSkippedByUser, "left out at submit"
	case len(r.Only) > 0 && !slices.Contains(r.Only, def.ID):
		return ci.ReasonNotSelected, "not among the steps chosen at submit"
	case def.Skip != "":
		return ci.ReasonSkipKey, def.Skip
	}
	return ci.ReasonNone, ""
}

func (o *CancelRun) subject(t *tables) (ci.TenantID, string, bool) { return runSubject(t, o.Run) }

func runSubject(t *tables, id ci.RunID) (ci.TenantID, string, bool) {
	r, ok := t.runs.get(id)
	if !ok {
		return "", "", false
	}
	return r.Tenant, string(id), true
}

func (o *CancelRun) apply(x *tx) error {
	r, err := x.run(o.Run)
	if err != nil {
		return err
	}
	if r.State.Terminal() {
		return ci.Errorf(ci.Conflict, "cannot cancel run %s: it is over (%s)", r.ID, r.State)
	}
	if r.Cancel != nil && (r.Cancel.Hard || !o.Hard) {
		return nil
	}
	c := ci.CancelRequest{By: x.actor, Reason: o.Reason, Note: o.Note, Hard: o.Hard, At: x.stamp.Cluster}
	if c.Reason == ci.ReasonNone {
		c.Reason = ci.ReasonCanceledUser
	}
	if r.Cancel != nil { // only harder: who came first says why
		c.By, c.Reason, c.Note = r.Cancel.By, r.Cancel.Reason, r.Cancel.Note
	}
	e := x.edit(r)
	e.run.Cancel, e.run.State = &c, ci.RunCanceling
	e.run.Reason, e.run.Message = c.Reason, c.Note
	e.save()
	x.record(ci.AuditEntry{Tenant: r.Tenant, Run: r.ID, SHA: r.Source.SHA, Reason: o.Note, Before: string(r.State), After: string(e.run.State)}, false)
	return nil
}

func (o *SetRun) apply(x *tx) error {
	r, err := x.run(o.Run)
	if err != nil {
		return err
	}
	if r.State == o.State && r.Reason == o.Reason && r.Message == o.Message {
		return nil
	}
	if r.State.Terminal() {
		return ci.Errorf(ci.Conflict, "cannot make run %s %s: it is over (%s)", r.ID, o.State, r.State)
	}
	switch {
	case o.State.Terminal():
		for _, s := range r.Steps {
			if !s.State.Terminal() {
				return ci.Errorf(ci.Conflict, "cannot make run %s %s: its step %s is %s", r.ID, o.State, s.ID, s.State)
			}
		}
	case o.State != ci.RunRunning && o.State != ci.RunBlocked:
		return ci.Errorf(ci.Invalid, "cannot make run %s %q", r.ID, o.State)
	case r.Cancel != nil:
		return ci.Errorf(ci.Conflict, "cannot make run %s %s: it is being canceled", r.ID, o.State)
	}
	e := x.edit(r)
	e.run.State, e.run.Reason, e.run.Message = o.State, o.Reason, o.Message
	if o.State.Terminal() {
		e.run.FinishedAt = x.stamp.Wall
	}
	e.save()
	return nil
}
