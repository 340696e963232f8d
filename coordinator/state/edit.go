package state

import (
	"slices"

	"github.com/slipway-ci/slipway/shared/ci"
)

// edit is a run under change. Rows are shared with every view there is, so it
// copies the run at once and a step or attempt when it is first touched.
type edit struct {
	x   *tx
	old *ci.Run // as stored; nil for a new run
	run *ci.Run
}

// edit begins a change of a stored run.
func (x *tx) edit(r *ci.Run) *edit {
	c := *r
	c.Steps = slices.Clone(r.Steps)
	return &edit{x: x, old: r, run: &c}
}

// step returns the i-th step, ready to be changed.
func (e *edit) step(i int) *ci.StepRun {
	if e.old == nil || e.run.Steps[i] != e.old.Steps[i] {
		return e.run.Steps[i]
	}
	c := *e.run.Steps[i]
	c.Attempts = slices.Clone(c.Attempts)
	e.run.Steps[i] = &c
	return &c
}

// attempt returns the j-th attempt of the i-th step, ready to be changed.
func (e *edit) attempt(i, j int) *ci.Attempt {
	s := e.step(i)
	if e.old == nil || j >= len(e.old.Steps[i].Attempts) || s.Attempts[j] != e.old.Steps[i].Attempts[j] {
		return s.Attempts[j]
	}
	c := *s.Attempts[j]
	s.Attempts[j] = &c
	return &c
}

// save stores the run and what follows from it.
func (e *edit) save() {
	e.run.Index = e.x.index
	e.x.putRun(e.old, e.run)
}

// putRun stores a run in the place of old, which is nil for a new one, and
// keeps the sums in step.
func (x *tx) putRun(old, r *ci.Run) {
	x.t.runs.put(r.ID, r)
	x.t.sum(old, r)
	x.changes.runs[r.ID] = struct{}{}
	if waitingSteps(old) != waitingSteps(r) {
		x.changes.tenants[r.Tenant] = struct{}{}
	}
	for i, s := range r.Steps {
		if old != nil && old.Steps[i] == s {
			continue
		}
		for j, a := range s.Attempts {
			if old != nil && j < len(old.Steps[i].Attempts) && old.Steps[i].Attempts[j] == a {
				continue
			}
			if a.Agent != "" {
				x.changes.agents[a.Agent] = struct{}{}
			}
		}
	}
}

// sum adjusts the derived sums for a run that takes the place of old.
func (t *tables) sum(old, r *ci.Run) {
	if d := waitingSteps(r) - waitingSteps(old); d != 0 {
		n, _ := t.waiting.get(r.Tenant)
		t.waiting.put(r.Tenant, n+d)
	}
	for i, s := range r.Steps {
		if old != nil {
			if old.Steps[i] == s {
				continue
			}
			t.reserve(old.Steps[i], -1)
		}
		t.reserve(s, 1)
	}
}

// reserve adds what a step's attempts hold to their agents, or takes it away.
func (t *tables) reserve(s *ci.StepRun, sign int) {
	for _, a := range s.Attempts {
		if !reserving(a) {
			continue
		}
		l, _ := t.load.get(a.Agent)
		l.Slots += sign
		if sign > 0 {
			l.Resources = l.Resources.Add(a.Resources)
		} else {
			l.Resources = l.Resources.Sub(a.Resources)
		}
		t.load.put(a.Agent, l)
	}
}

// reserving reports whether an attempt holds slots, cpu and memory: from its
// assignment until its process has exited. An upload needs none of them.
func reserving(a *ci.Attempt) bool { return held(a) && a.Outcome == 0 }

// waitingSteps counts the steps of a run that count against its tenant's quota.
func waitingSteps(r *ci.Run) int {
	if r == nil || r.State.Terminal() {
		return 0
	}
	n := 0
	for _, s := range r.Steps {
		if waits(s.State) {
			n++
		}
	}
	return n
}

func waits(s ci.StepState) bool {
	return s == ci.StepPending || s == ci.StepBlocked || s == ci.StepQueued
}
