// Package engine decides what a run does next: which steps are queued, tried
// again, ended, and when the run itself is over. Advance is that decision, a
// pure function; Engine is the loop around it, which exists only on the leader.
package engine

import (
	"time"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
)

// AcceptTimeout is how long an agent may leave an assignment without an answer.
const AcceptTimeout = 15 * time.Second

// Advance returns what has to be changed for the run to go on, and the earliest
// time at which it wants to be asked again though nothing changed (0: never).
// It is called again after each change until it returns nothing: whatever it
// returned and was not applied, it returns once more. Ops do not depend on each
// other's order.
func Advance(r *ci.Run, now ci.ClusterTime, newID func() ci.AttemptID) (ops []state.Op, next ci.ClusterTime) {
	if r.State.Terminal() {
		return nil, 0
	}
	p := newPass(r, now, newID)
	if p.open == 0 {
		p.finish()
		return p.ops, 0
	}
	if p.overtime() {
		return p.ops, 0
	}
	// A step's end may let others go on, also earlier ones of the file.
	for again := true; again; {
		again = false
		for i := range p.run.Steps {
			if !p.run.Steps[i].State.Terminal() && !p.acted[i] {
				again = p.step(i) || again
			}
		}
	}
	return p.ops, p.next
}

// pass is one call of Advance. It works on a copy of the run, in which it ends
// steps as the ops it returns will, so that what follows a step is decided at
// once and not a turn of the log later.
type pass struct {
	run     *ci.Run
	now     ci.ClusterTime
	newID   func() ci.AttemptID
	ops     []state.Op
	next    ci.ClusterTime
	place   map[string]int // of the steps by id; made when needed
	acted   []bool         // steps that got an op in this pass
	open    int            // steps that are not over
	main    int            // those of them that are not in finally
	failing bool           // a main step has failed for good
	seen    []int          // marks of walks over needs
	walk    int
	stack   []int // of a walk, and what it found; kept between walks
	waits   []int
	copied  bool
}

func newPass(r *ci.Run, now ci.ClusterTime, newID func() ci.AttemptID) *pass {
	c := *r
	p := &pass{run: &c, now: now, newID: newID, acted: make([]bool, len(r.Steps))}
	for i, s := range r.Steps {
		p.count(i, s)
	}
	return p
}

func (p *pass) count(i int, s *ci.StepRun) {
	fin := p.def(i).Finally
	if !s.State.Terminal() {
		p.open++
		if !fin {
			p.main++
		}
	}
	p.failing = p.failing || !fin && s.State.Failing()
}

func (p *pass) def(i int) *ci.Step { return &p.run.Workflow.Steps[i] }

// wake asks for another call at t.
func (p *pass) wake(t ci.ClusterTime) {
	if p.next == 0 || t < p.next {
		p.next = t
	}
}

// due reports whether t has come, and else asks to be called then.
func (p *pass) due(t ci.ClusterTime) bool {
	if p.now >= t {
		return true
	}
	p.wake(t)
	return false
}

func (p *pass) emit(i int, op state.Op) bool {
	p.ops = append(p.ops, op)
	p.acted[i] = true
	return true
}

// overtime cancels a run whose time is up, and makes a canceled one whose
// finally steps take as long again end hard.
func (p *pass) overtime() bool {
	limit := p.run.Workflow.Timeout
	if limit <= 0 {
		return false
	}
	c := p.run.Cancel
	op := &state.CancelRun{Run: p.run.ID, Reason: ci.ReasonTimeout, Note: "the run took longer than " + limit.String()}
	switch {
	case c == nil && (p.run.Started == 0 || !p.due(p.run.Started.Add(limit))):
		return false
	case c != nil && (c.Hard || !p.due(c.At.Add(limit))):
		return false
	}
	op.Hard = c != nil
	p.ops = append(p.ops, op)
	return true
}

// canceling returns why the step has to stop since its run does.
func (p *pass) canceling(i int) (ci.Reason, bool) {
	c := p.run.Cancel
	if c == nil || p.def(i).Finally && !c.Hard {
		return ci.ReasonNone, false
	}
	return c.Reason, true
}

// failedFast reports whether the step may not begin since another failed.
func (p *pass) failedFast(i int) bool {
	return p.failing && p.run.Workflow.FailFast && !p.def(i).Finally
}

// step does what a step needs next and reports whether that may matter to
// others.
func (p *pass) step(i int) bool {
	a := p.run.Steps[i].Last()
	switch {
	case a == nil:
		return p.pending(i)
	case decided(p.def(i), a):
		return p.ended(i, a)
	default:
		return p.live(i, a)
	}
}

// decided reports whether an attempt's outcome counts already: at its exit,
// for a step with artifacts at its final report.
func decided(def *ci.Step, a *ci.Attempt) bool {
	if def.DecidesAtFinal() {
		return a.State.Terminal()
	}
	return a.Decided() != 0
}

// live handles an attempt that is still under way.
func (p *pass) live(i int, a *ci.Attempt) bool {
	if reason, ok := p.canceling(i); ok {
		return p.stop(i, a, reason)
	}
	if a.State <= ci.AttemptAssigned && p.failedFast(i) {
		return p.stop(i, a, ci.ReasonFailFast)
	}
	switch a.State {
	case ci.AttemptQueued:
		return p.expire(i, a)
	case ci.AttemptAssigned:
		if p.due(a.AssignedAt.Add(AcceptTimeout)) {
			s := p.run.Steps[i]
			return p.emit(i, &state.UnacceptAttempt{Run: p.run.ID, Step: s.ID, Attempt: a.ID, Fence: a.Fence})
		}
		return false
	default: // its agent works on it
		return false
	}
}

// stop ends a step that still waits for an agent, or has its attempt stopped.
func (p *pass) stop(i int, a *ci.Attempt, reason ci.Reason) bool {
	if a.State == ci.AttemptQueued {
		return p.end(i, ci.StepCanceled, reason, "", "")
	}
	want := ci.WantCancel
	if reason == ci.ReasonTimeout {
		want = ci.WantTimeout
	}
	if a.Want >= want {
		return false
	}
	return p.emit(i, &state.WantAttempt{Run: p.run.ID, Step: p.def(i).ID, Attempt: a.ID, Want: want, Reason: reason})
}

// expire gives up an attempt that no agent took for too long. The wait that a
// retry rule asks for does not count.
func (p *pass) expire(i int, a *ci.Attempt) bool {
	limit := p.def(i).QueueTimeout
	if limit <= 0 {
		limit = p.run.Workflow.QueueTimeout
	}
	if limit <= 0 || !p.due(max(a.QueuedSince, a.NotBefore).Add(limit)) {
		return false
	}
	return p.end(i, ci.StepExpired, ci.ReasonQueueTimeout, "no agent took it within "+limit.String(), "")
}

// end ends a step in this pass's copy of the run and asks for the same.
func (p *pass) end(i int, st ci.StepState, reason ci.Reason, message string, result ci.AttemptID) bool {
	old := p.run.Steps[i]
	p.emit(i, &state.EndStep{
		Run: p.run.ID, Step: old.ID, Generation: old.Generation,
		State: st, Reason: reason, Message: message, Result: result,
	})
	if !p.copied {
		p.run.Steps = append([]*ci.StepRun(nil), p.run.Steps...)
		p.copied = true
	}
	s := *old
	s.State, s.Reason, s.Message, s.Result = st, reason, message, result
	switch st {
	case ci.StepPassed:
		s.Outputs = state.Outputs(p.def(i), old.Attempt(result))
	case ci.StepSkipped:
		s.Outputs = nil
	default: // those of the last passed generation stay
	}
	p.run.Steps[i] = &s
	p.open--
	if !p.def(i).Finally {
		p.main--
		p.failing = p.failing || st.Failing()
	}
	return true
}
