package engine

import (
	"fmt"
	"slices"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr"
)

// pending handles a step without an attempt: it waits, is given up, left out,
// or queued.
func (p *pass) pending(i int) bool {
	if reason, ok := p.canceling(i); ok {
		return p.end(i, ci.StepCanceled, reason, "", "")
	}
	waits, broken := p.needs(i)
	if broken != "" {
		return p.end(i, ci.StepNotRun, ci.ReasonDependencyFailed, broken+" did not pass", "")
	}
	if p.failedFast(i) {
		return p.end(i, ci.StepCanceled, ci.ReasonFailFast, "", "")
	}
	if len(waits) > 0 {
		return false
	}
	def := p.def(i)
	if def.If != "" {
		ok, err := expr.Eval(def.If, expr.ForRun(p.run, def.ID))
		if err != nil {
			return p.end(i, ci.StepFailed, ci.ReasonExpression, fmt.Sprintf("if: %v", err), "")
		}
		if !ok {
			return p.end(i, ci.StepSkipped, ci.ReasonIfFalse, def.If, "")
		}
	}
	return p.queue(i, retry{})
}

// queue queues a new attempt, as soon as no older one is left: at most one of a
// step may be live, and one that uploads still is.
func (p *pass) queue(i int, re retry) bool {
	s := p.run.Steps[i]
	for _, a := range s.Attempts {
		if a.Live() {
			return false
		}
	}
	rendered, err := expr.RenderStep(p.run, p.def(i))
	if err != nil {
		return p.end(i, ci.StepFailed, ci.ReasonExpression, err.Error(), "")
	}
	op := &state.QueueAttempt{
		Run: p.run.ID, Step: s.ID, Attempt: p.newID(), Generation: s.Generation,
		Resources: re.resources(rendered.Resources), PreferOther: re.other,
	}
	if re.after > 0 {
		op.NotBefore = p.now.Add(re.after)
	}
	// Nobody else's decision depends on it: it is queued, not over.
	p.emit(i, op)
	return false
}

// needs returns what a pending step waits for, or what broke its way. A step
// that was left out stands aside: what follows it waits for what it would have
// waited for. The slice is good until the next call.
func (p *pass) needs(i int) (waits []int, broken string) {
	def := p.def(i)
	waits = p.waits[:0]
	defer func() { p.waits = waits }()
	if def.Finally && p.main > 0 {
		for j, s := range p.run.Steps {
			if !p.def(j).Finally && !s.State.Terminal() {
				waits = append(waits, j)
			}
		}
		return waits, ""
	}
	if len(def.Needs) == 0 {
		return waits, ""
	}
	if p.seen == nil {
		p.seen = make([]int, len(p.run.Steps))
	}
	// finally runs whatever happened, and so does what a person asked for alone.
	heedless := def.Finally || p.run.Steps[i].Override.Alone
	p.walk++
	p.push(def.Needs)
	for len(p.stack) > 0 {
		j := p.stack[len(p.stack)-1]
		p.stack = p.stack[:len(p.stack)-1]
		s := p.run.Steps[j]
		switch {
		case !s.State.Terminal():
			waits = append(waits, j)
		case s.State == ci.StepSkipped:
			p.push(p.def(j).Needs)
		case !s.State.Satisfies() && !heedless && broken == "":
			broken = s.ID
		}
	}
	return waits, broken
}

// push puts steps on the stack of a walk that it has not come by yet.
func (p *pass) push(ids []string) {
	for _, id := range ids {
		if j := p.find(id); p.seen[j] != p.walk {
			p.seen[j] = p.walk
			p.stack = append(p.stack, j)
		}
	}
}

// find returns the place of a step. The apply of workflows has made sure that
// needs name what is there.
func (p *pass) find(id string) int { return p.places()[id] }

func (p *pass) places() map[string]int {
	if p.place == nil {
		p.place = make(map[string]int, len(p.run.Steps))
		for i, s := range p.run.Steps {
			p.place[s.ID] = i
		}
	}
	return p.place
}

// Pending answers, for each step of a run, which steps it waits for, in the order
// of the file: none for one that waits for nothing but an agent, or does not
// wait. What all answers need is worked out once.
func Pending(r *ci.Run) func(step string) []string {
	p := newPass(r, 0, nil)
	return func(step string) []string {
		i, ok := p.places()[step]
		if !ok || r.Steps[i].State != ci.StepPending {
			return nil
		}
		waits, _ := p.needs(i)
		slices.Sort(waits)
		out := make([]string, len(waits))
		for k, j := range waits {
			out[k] = r.Steps[j].ID
		}
		return out
	}
}
