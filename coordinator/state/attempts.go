package state

import (
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

var noTime time.Time

func (o *QueueAttempt) apply(x *tx) error {
	if err := checkID("attempt", string(o.Attempt)); err != nil {
		return err
	}
	r, i, err := x.step(o.Run, o.Step)
	if err != nil {
		return err
	}
	s := r.Steps[i]
	if s.Attempt(o.Attempt) != nil {
		return nil
	}
	switch {
	case r.State.Terminal() || s.State.Terminal():
		return ci.Errorf(ci.Conflict, "cannot queue step %s of run %s: it is %s and the run %s", s.ID, r.ID, s.State, r.State)
	case o.Generation != 0 && o.Generation != s.Generation:
		return ci.Errorf(ci.Conflict, "cannot queue generation %d of step %s of run %s: it is at %d", o.Generation, s.ID, r.ID, s.Generation)
	case r.Cancel != nil && (r.Cancel.Hard || !r.Workflow.Steps[i].Finally):
		return ci.Errorf(ci.Conflict, "cannot queue step %s of run %s: the run is being canceled", s.ID, r.ID)
	case s.SkipNote != "":
		return ci.Errorf(ci.Conflict, "cannot queue step %s of run %s: it is being skipped", s.ID, r.ID)
	}
	for _, a := range s.Attempts {
		if a.Live() {
			return ci.Errorf(ci.Conflict, "cannot queue step %s of run %s: attempt %d is %s", s.ID, r.ID, a.Number, a.State)
		}
	}
	if a := s.Last(); a != nil && a.State == ci.AttemptSucceeded {
		return ci.Errorf(ci.Conflict, "cannot queue step %s of run %s: attempt %d succeeded", s.ID, r.ID, a.Number)
	}
	e := x.edit(r)
	t := e.step(i)
	t.Attempts = append(t.Attempts, &ci.Attempt{
		ID: o.Attempt, Number: len(t.Attempts) + 1, Generation: t.Generation,
		State: ci.AttemptQueued, Resources: o.Resources, PreferOther: o.PreferOther,
		NotBefore: o.NotBefore, QueuedSince: x.stamp.Cluster, QueuedAt: x.stamp.Wall,
	})
	show(t)
	e.save()
	return nil
}

func (o *AssignAttempt) apply(x *tx) error {
	r, i, j, err := x.attempt(o.Run, o.Step, o.Attempt)
	if err != nil {
		return err
	}
	a := r.Steps[i].Attempts[j]
	if a.State != ci.AttemptQueued {
		if a.State == ci.AttemptAssigned && a.Agent == o.Agent {
			return nil
		}
		return ci.Errorf(ci.Conflict, "cannot assign attempt %s: it is %s", a.ID, a.State)
	}
	res := o.Resources
	if res == (ci.Resources{}) {
		res = a.Resources
	}
	if err := x.fits(o.Agent, r.Tenant, res); err != nil {
		return err
	}
	x.t.meta.Fence++
	e := x.edit(r)
	b := e.attempt(i, j)
	b.State, b.Agent, b.Fence, b.Resources = ci.AttemptAssigned, o.Agent, x.t.meta.Fence, res
	b.AssignedAt = x.stamp.Cluster
	show(e.step(i))
	if e.run.Started == 0 {
		e.run.Started = max(x.stamp.Cluster, 1)
	}
	if e.run.StartedAt.IsZero() {
		e.run.StartedAt = x.stamp.Wall
	}
	if e.run.State == ci.RunQueued {
		e.run.State = ci.RunRunning
	}
	e.save()
	return nil
}

// fits refuses an assignment that an agent cannot carry.
func (x *tx) fits(id ci.AgentID, tenant ci.TenantID, res ci.Resources) error {
	ag, ok := x.t.agents.get(id)
	if !ok {
		return ci.Errorf(ci.NotFound, "there is no agent %s", id)
	}
	if ag.State != ci.AgentReady {
		return ci.Errorf(ci.Conflict, "cannot assign to agent %s: it is %s", id, ag.State)
	}
	if ag.Tenant != "" && ag.Tenant != tenant {
		return ci.Errorf(ci.Conflict, "cannot assign to agent %s: it is kept for tenant %s", id, ag.Tenant)
	}
	if res.MilliCPU < 0 || res.Memory < 0 || res.Disk < 0 || res.Pids < 0 {
		return ci.Errorf(ci.Invalid, "cannot assign to agent %s: the resources asked for are negative", id)
	}
	l, _ := x.t.load.get(id)
	sum := l.Resources.Add(res)
	// What is negative has overflowed.
	if l.Slots+1 > ag.Slots || sum.MilliCPU > ag.Capacity.MilliCPU || sum.Memory > ag.Capacity.Memory || sum.MilliCPU < 0 || sum.Memory < 0 {
		return ci.Errorf(ci.Conflict, "cannot assign to agent %s: it is full", id)
	}
	return nil
}

func (o *AcceptAttempt) apply(x *tx) error {
	r, i, j, err := x.attempt(o.Run, o.Step, o.Attempt)
	if err != nil {
		return err
	}
	a := r.Steps[i].Attempts[j]
	if err := x.owns(a, o.Fence, o.Agent, o.Incarnation); err != nil {
		return err
	}
	switch {
	case a.State.Terminal():
		return ci.Errorf(ci.Conflict, "cannot accept attempt %s: it is over (%s)", a.ID, a.State)
	case a.State > ci.AttemptAssigned:
		return nil
	}
	e := x.edit(r)
	b := e.attempt(i, j)
	b.State, b.AcceptedTime = ci.AttemptAccepted, x.stamp.Cluster
	show(e.step(i))
	e.save()
	return nil
}

// owns refuses news from anyone but the session that holds the attempt. An
// incarnation of 0 is the coordinator's own word.
func (x *tx) owns(a *ci.Attempt, fence uint64, agent ci.AgentID, incarnation uint64) error {
	if a.Fence != fence || a.Agent != agent || agent == "" {
		return ci.Errorf(ci.Conflict, "attempt %s belongs to agent %q with fence %d, not to %q with %d", a.ID, a.Agent, a.Fence, agent, fence)
	}
	if incarnation == 0 {
		return nil
	}
	ag, ok := x.t.agents.get(agent)
	if !ok || ag.Incarnation != incarnation {
		return ci.Errorf(ci.Conflict, "agent %s has opened another session since; register again", agent)
	}
	return nil
}

func (o *WantAttempt) apply(x *tx) error {
	r, i, j, err := x.attempt(o.Run, o.Step, o.Attempt)
	if err != nil {
		return err
	}
	a := r.Steps[i].Attempts[j]
	if o.Want != ci.WantCancel && o.Want != ci.WantTimeout {
		return ci.Errorf(ci.Invalid, "cannot want %d of attempt %s", o.Want, a.ID)
	}
	if !a.Live() || a.Want >= o.Want {
		return nil
	}
	e := x.edit(r)
	b := e.attempt(i, j)
	if unaccepted(b) {
		closeAttempt(b, o.Reason, "", x.stamp.Wall)
	}
	b.Want, b.WantReason = o.Want, o.Reason
	show(e.step(i))
	e.save()
	return nil
}

func (o *LoseAttempt) apply(x *tx) error {
	r, i, j, err := x.attempt(o.Run, o.Step, o.Attempt)
	if err != nil {
		return err
	}
	a := r.Steps[i].Attempts[j]
	switch {
	case a.State == ci.AttemptLost:
		return nil
	case !held(a) || a.Fence != o.Fence:
		return ci.Errorf(ci.Conflict, "cannot give attempt %s up: it is %s with fence %d", a.ID, a.State, a.Fence)
	}
	e := x.edit(r)
	e.lose(i, j, o.Reason, o.Message)
	e.save()
	return nil
}

// lose gives up an attempt that its agent holds. What the exit has decided
// stands, unless the step still waited for files that will not come now.
func (e *edit) lose(i, j int, reason ci.Reason, message string) {
	a := e.attempt(i, j)
	a.FinishedAt = e.x.stamp.Wall
	if a.Outcome != 0 && !e.run.Workflow.Steps[i].DecidesAtFinal() {
		a.State = a.Outcome
		a.Log.Truncated = true
	} else {
		a.State, a.Reason, a.Message = ci.AttemptLost, reason, message
	}
	show(e.step(i))
}

func (o *UnacceptAttempt) apply(x *tx) error {
	r, i, j, err := x.attempt(o.Run, o.Step, o.Attempt)
	if err != nil {
		return err
	}
	a := r.Steps[i].Attempts[j]
	switch {
	case a.State == ci.AttemptUnaccepted:
		return nil
	case a.State != ci.AttemptAssigned || a.Fence != o.Fence:
		return ci.Errorf(ci.Conflict, "cannot take attempt %s back: it is %s with fence %d", a.ID, a.State, a.Fence)
	}
	e := x.edit(r)
	b := e.attempt(i, j)
	b.State, b.FinishedAt = ci.AttemptUnaccepted, x.stamp.Wall
	b.Message = "the agent did not accept in time"
	show(e.step(i))
	e.save()
	return nil
}
