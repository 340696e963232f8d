package engine

import (
	"fmt"
	"strings"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
)

// finish ends a run whose steps are all over.
func (p *pass) finish() {
	st, reason, message := verdict(p.run)
	p.ops = append(p.ops, &state.SetRun{Run: p.run.ID, State: st, Reason: reason, Message: message})
}

// verdict sums the steps up: a cancel counts first, then the worst of what
// failed, then what was given up.
func verdict(r *ci.Run) (ci.RunState, ci.Reason, string) {
	if c := r.Cancel; c != nil {
		if c.Reason == ci.ReasonTimeout {
			return ci.RunTimedOut, c.Reason, c.Note
		}
		return ci.RunCanceled, c.Reason, c.Note
	}
	for _, v := range []struct {
		steps []ci.StepState
		run   ci.RunState
	}{
		{[]ci.StepState{ci.StepFailed, ci.StepLost}, ci.RunFailed},
		{[]ci.StepState{ci.StepTimedOut}, ci.RunTimedOut},
		{[]ci.StepState{ci.StepExpired}, ci.RunExpired},
		{[]ci.StepState{ci.StepCanceled, ci.StepNotRun}, ci.RunCanceled},
	} {
		if reason, message, ok := blame(r, v.steps); ok {
			return v.run, reason, message
		}
	}
	return ci.RunPassed, ci.ReasonNone, ""
}

// maxBlamed is how many steps a run's message names.
const maxBlamed = 5

// blame names the steps in one of the states, with the first reason that is not
// the fleet's fault, if there is one.
func blame(r *ci.Run, states []ci.StepState) (reason ci.Reason, message string, found bool) {
	var names []string
	more := 0
	for _, s := range r.Steps {
		hit := false
		for _, st := range states {
			hit = hit || s.State == st
		}
		if !hit {
			continue
		}
		if !found || reason.Infrastructure() && !s.Reason.Infrastructure() {
			reason, found = s.Reason, true
		}
		if len(names) < maxBlamed {
			names = append(names, fmt.Sprintf("%s: %s", s.ID, s.Reason))
		} else {
			more++
		}
	}
	message = strings.Join(names, ", ")
	if more > 0 {
		message += fmt.Sprintf(" and %d more", more)
	}
	return reason, message, found
}
