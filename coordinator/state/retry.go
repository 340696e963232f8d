package state

import (
	"maps"
	"slices"
	"strings"

	"github.com/slipway-ci/slipway/shared/ci"
)

func (o *RetryRun) subject(t *tables) (ci.TenantID, string, bool) { return runSubject(t, o.Run) }

func (o *RetryRun) apply(x *tx) error {
	r, err := x.run(o.Run)
	if err != nil {
		return err
	}
	if r.Cancel != nil && !r.State.Terminal() {
		return ci.Errorf(ci.Conflict, "cannot retry run %s: it is being canceled; wait for its end", r.ID)
	}
	for name := range o.Params {
		if !hasParam(r.Workflow, name) {
			return ci.FieldErrorf(ci.Invalid, "params", "the workflow has no parameter %q", name)
		}
	}
	set, err := o.choose(r)
	if err != nil {
		return err
	}
	if err := addFinally(r, set); err != nil {
		return err
	}
	e := x.edit(r)
	// A step that is asked for by name takes part from now on.
	if o.Mode != RetryFailed {
		named := append([]string{o.From}, o.Steps...)
		e.run.Skip = slices.DeleteFunc(slices.Clone(r.Skip), func(id string) bool { return slices.Contains(named, id) })
		if len(r.Only) > 0 {
			for _, id := range named {
				if id != "" && !slices.Contains(r.Only, id) {
					e.run.Only = append(slices.Clone(e.run.Only), id)
				}
			}
		}
	}
	override := ci.Override{Params: maps.Clone(o.Params), Env: maps.Clone(o.Env), By: x.actor}
	after := behind(r, set)
	var opened []string
	for i, s := range r.Steps {
		if !set[i] {
			continue
		}
		e.reopen(i)
		named := slices.Contains(o.Steps, s.ID) || o.From == s.ID
		if !r.Workflow.Steps[i].Finally || named {
			override.Alone = named && !after[i]
			e.step(i).Override = override
		}
		opened = append(opened, s.ID)
	}
	e.resume()
	e.save()
	x.record(ci.AuditEntry{
		Tenant: r.Tenant, Run: r.ID, SHA: r.Source.SHA, Reason: o.Mode,
		Before: string(r.State), After: string(e.run.State) + ": " + strings.Join(opened, " "),
	}, false)
	return nil
}

func hasParam(w *ci.Workflow, name string) bool {
	for i := range w.Params {
		if w.Params[i].Name == name {
			return true
		}
	}
	return false
}

// reopen begins a new generation of a step.
func (e *edit) reopen(i int) { open(e.run, &e.run.Workflow.Steps[i], e.step(i), e.x.stamp.Wall) }

// resume makes a finished run run again.
func (e *edit) resume() {
	if !e.run.State.Terminal() {
		return
	}
	e.run.State, e.run.Reason, e.run.Message = ci.RunRunning, ci.ReasonNone, ""
	e.run.Cancel = nil
	e.run.Round++
	// The run's timeout counts from the first assignment of this round.
	e.run.Started = 0
	e.run.FinishedAt = noTime
}

// steps is a set of places within a run.
type steps map[int]bool

// choose returns the steps that the retry opens.
func (o *RetryRun) choose(r *ci.Run) (steps, error) {
	seeds, err := o.seeds(r)
	if err != nil {
		return nil, err
	}
	set := maps.Clone(seeds)
	for i := range reach(r, seeds, o.Mode == RetryFrom) {
		s := r.Steps[i]
		switch {
		case s.State == ci.StepPending || s.State == ci.StepBlocked:
			// It sees the new generation anyway.
		case !s.State.Terminal():
			return nil, ci.Errorf(ci.Conflict, "cannot retry run %s from %s: step %s, which follows it, is %s; cancel it or wait for its end", r.ID, o.From, s.ID, s.State)
		case o.Mode == RetryFrom, s.State == ci.StepNotRun, s.State == ci.StepCanceled:
			set[i] = true
		}
	}
	addFailFast(r, seeds, set)
	return set, nil
}

// seeds returns the steps that the caller asked for.
func (o *RetryRun) seeds(r *ci.Run) (steps, error) {
	set := make(steps)
	var named []string
	switch o.Mode {
	case RetryFailed:
		for i, s := range r.Steps {
			if s.State.Failing() || s.State == ci.StepCanceled || s.State == ci.StepNotRun {
				set[i] = true
			}
		}
		if len(set) == 0 {
			return nil, ci.Errorf(ci.Conflict, "cannot retry run %s: none of its steps has failed; name a step to run it again", r.ID)
		}
		return set, nil
	case RetryFrom:
		named = []string{o.From}
	case RetrySteps:
		named = o.Steps
	default:
		return nil, ci.FieldErrorf(ci.Invalid, "mode", "cannot retry run %s in the mode %q: there are failed, from and steps", r.ID, o.Mode)
	}
	if len(named) == 0 {
		return nil, ci.FieldErrorf(ci.Invalid, "steps", "cannot retry run %s: no step is named", r.ID)
	}
	for _, id := range named {
		i := stepIndex(r, id)
		if i < 0 {
			return nil, ci.FieldErrorf(ci.NotFound, "step", "run %s has no step %q", r.ID, id)
		}
		s := r.Steps[i]
		if !s.State.Terminal() {
			return nil, ci.Errorf(ci.Conflict, "cannot retry step %s of run %s: it is %s", id, r.ID, s.State)
		}
		if why := r.Workflow.Steps[i].Skip; why != "" {
			return nil, ci.Errorf(ci.Conflict, "cannot retry step %s of run %s: the workflow file leaves it out (%s)", id, r.ID, why)
		}
		set[i] = true
	}
	return set, nil
}

// reach returns what follows the seeds. Unless through, it does not go past a
// step that ran by itself: what follows that did not stay undone because of the
// seeds.
func reach(r *ci.Run, seeds steps, through bool) steps {
	from := maps.Clone(seeds)
	out := make(steps)
	place := make(map[string]int, len(r.Steps))
	for i, s := range r.Steps {
		place[s.ID] = i
	}
	for grown := true; grown; {
		grown = false
		for i, s := range r.Steps {
			def := &r.Workflow.Steps[i]
			if from[i] || out[i] || def.Finally {
				continue
			}
			follows := slices.ContainsFunc(def.Needs, func(n string) bool { return from[place[n]] })
			if !follows {
				continue
			}
			out[i], grown = true, true
			if through || s.State == ci.StepNotRun || s.State == ci.StepCanceled || s.State == ci.StepSkipped {
				from[i] = true
			}
		}
	}
	return out
}

// behind returns the steps that wait for one of the set, through whatever steps.
func behind(r *ci.Run, set steps) steps {
	out := make(steps)
	place := make(map[string]int, len(r.Steps))
	for i, s := range r.Steps {
		place[s.ID] = i
	}
	for grown := true; grown; {
		grown = false
		for i := range r.Steps {
			if out[i] {
				continue
			}
			if slices.ContainsFunc(r.Workflow.Steps[i].Needs, func(n string) bool { return set[place[n]] || out[place[n]] }) {
				out[i], grown = true, true
			}
		}
	}
	return out
}

// addFailFast adds the steps that were given up because another had failed,
// when the seeds are all that had.
func addFailFast(r *ci.Run, seeds, set steps) {
	failed := false
	for i, s := range r.Steps {
		if s.State.Failing() && !set[i] {
			return
		}
		failed = failed || seeds[i] && s.State.Failing()
	}
	if !failed {
		return
	}
	given := make(steps)
	for i, s := range r.Steps {
		if s.State == ci.StepCanceled && s.Reason == ci.ReasonFailFast {
			given[i], set[i] = true, true
		}
	}
	for i := range reach(r, given, false) {
		if r.Steps[i].State == ci.StepNotRun {
			set[i] = true
		}
	}
}

// addFinally adds the finally steps that ran already: they run at the end, and
// the end is to come again.
func addFinally(r *ci.Run, set steps) error {
	main := false
	for i := range set {
		main = main || !r.Workflow.Steps[i].Finally
	}
	if !main {
		return nil
	}
	for i, s := range r.Steps {
		if !r.Workflow.Steps[i].Finally || set[i] {
			continue
		}
		switch {
		case s.State == ci.StepPending:
		case !s.State.Terminal():
			return ci.Errorf(ci.Conflict, "cannot open steps of run %s again: it is finishing (%s is %s); try again when it is over", r.ID, s.ID, s.State)
		case s.State == ci.StepSkipped && s.SkipNote != "": // somebody does not want it
		default:
			set[i] = true
		}
	}
	return nil
}

func (o *SkipStep) subject(t *tables) (ci.TenantID, string, bool) { return runSubject(t, o.Run) }

func (o *SkipStep) apply(x *tx) error {
	r, i, err := x.step(o.Run, o.Step)
	if err != nil {
		return err
	}
	s := r.Steps[i]
	switch {
	case strings.TrimSpace(o.Note) == "":
		return ci.FieldErrorf(ci.Invalid, "reason", "cannot skip step %s of run %s without a reason; say why", s.ID, r.ID)
	case s.State == ci.StepSkipped, s.SkipNote != "" && !s.State.Terminal():
		return nil
	case s.State == ci.StepPassed || s.State == ci.StepSoftFailed:
		return ci.Errorf(ci.Conflict, "cannot skip step %s of run %s: it is over (%s)", s.ID, r.ID, s.State)
	case r.Cancel != nil && !r.State.Terminal():
		return ci.Errorf(ci.Conflict, "cannot skip step %s of run %s: the run is being canceled", s.ID, r.ID)
	}
	e := x.edit(r)
	if err := o.write(e, i); err != nil {
		return err
	}
	e.save()
	x.recordStep(r, s, e.run.Steps[i], o.Note)
	return nil
}

func (o *SkipStep) write(e *edit, i int) error {
	over := e.run.Steps[i].State.Terminal()
	set := make(steps)
	if over {
		released(e.run, i, set)
		set[i] = true // so that a skip after the end lets finally run again
		if err := addFinally(e.run, set); err != nil {
			return err
		}
		delete(set, i)
	}
	s := e.step(i)
	s.SkipNote, s.SkippedBy = o.Note, e.x.actor
	if !over {
		e.stop(i, ci.ReasonSkippedByUser, o.Note)
		if a := s.Last(); a != nil && !(a.State == ci.AttemptCanceled && a.Reason == ci.ReasonSkippedByUser) {
			return nil // the engine ends it once its attempt has
		}
	}
	s.State, s.Reason, s.Message = ci.StepSkipped, ci.ReasonSkippedByUser, o.Note
	s.Outputs, s.FinishedAt = nil, e.x.stamp.Wall
	for j := range set {
		e.reopen(j)
	}
	if over {
		e.resume()
	}
	return nil
}

// released adds the steps that did not run because step i had failed.
func released(r *ci.Run, i int, set steps) {
	seeds := steps{i: true}
	for j := range reach(r, seeds, false) {
		if s := r.Steps[j]; s.State == ci.StepNotRun || s.State == ci.StepCanceled && s.Reason == ci.ReasonFailFast {
			set[j] = true
		}
	}
	mine := maps.Clone(set)
	mine[i] = true
	addFailFast(r, seeds, mine)
	delete(mine, i)
	maps.Copy(set, mine)
}
