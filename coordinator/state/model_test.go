package state

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway-ci/slipway/shared/ci"
)

// model is a run as the rules in words have it, kept without the code under
// test: for each step its state and generation.
type model struct {
	defs  []ci.Step
	state map[string]ci.StepState
	gen   map[string]int
	over  bool
}

func (m *model) String() string {
	s := ""
	for _, d := range m.defs {
		s += fmt.Sprintf(" %s:%s@%d", d.ID, m.state[d.ID], m.gen[d.ID])
	}
	return s
}

func (m *model) needs(id string) []string {
	for _, d := range m.defs {
		if d.ID == id {
			return d.Needs
		}
	}
	return nil
}

// becauseOf reports whether a step stayed undone because of one of the seeds:
// there is a way down to one on which every step between was not run either,
// or stands aside.
func (m *model) becauseOf(id string, seeds []string) bool {
	for _, n := range m.needs(id) {
		if slices.Contains(seeds, n) {
			return true
		}
		aside := m.state[n] == ci.StepNotRun || m.state[n] == ci.StepSkipped || m.state[n] == ci.StepCanceled
		if aside && m.becauseOf(n, seeds) {
			return true
		}
	}
	return false
}

func (m *model) follows(id string, seed string) bool {
	for _, n := range m.needs(id) {
		if n == seed || m.follows(n, seed) {
			return true
		}
	}
	return false
}

func failing(s ci.StepState) bool { return s == ci.StepFailed }

func (m *model) open(ids []string) {
	for _, id := range ids {
		m.state[id], m.gen[id] = ci.StepPending, m.gen[id]+1
	}
	m.over = false
}

// opened returns what a retry opens, or false when it is refused.
func (m *model) opened(mode, step string) ([]string, bool) {
	var seeds, out []string
	for _, d := range m.defs {
		s := m.state[d.ID]
		if mode == RetryFailed && (failing(s) || s == ci.StepNotRun || s == ci.StepCanceled) || mode != RetryFailed && d.ID == step {
			seeds = append(seeds, d.ID)
		}
	}
	if len(seeds) == 0 || mode != RetryFailed && !m.state[step].Terminal() {
		return nil, false
	}
	for _, d := range m.defs {
		s := m.state[d.ID]
		switch {
		case slices.Contains(seeds, d.ID):
			out = append(out, d.ID)
		case mode == RetryFrom && m.follows(d.ID, step) && s.Terminal():
			out = append(out, d.ID)
		case mode != RetryFrom && (s == ci.StepNotRun || s == ci.StepCanceled) && m.becauseOf(d.ID, seeds):
			out = append(out, d.ID)
		}
	}
	return out, true
}

// TestGenerations plays random lives of random graphs against the model.
func TestGenerations(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{state: map[string]ci.StepState{}, gen: map[string]int{}}
		for i := range rapid.IntRange(1, 6).Draw(rt, "steps") {
			d := def(fmt.Sprintf("s%d", i))
			for j := range i {
				if rapid.IntRange(0, 2).Draw(rt, "need") == 0 {
					d.Needs = append(d.Needs, fmt.Sprintf("s%d", j))
				}
			}
			m.defs = append(m.defs, d)
			m.state[d.ID], m.gen[d.ID] = ci.StepPending, 1
		}
		w := newWorld(t)
		w.create("r1", m.defs...)
		for range rapid.IntRange(1, 40).Draw(rt, "moves") {
			m.move(rt, w)
			got, want := w.states("r1"), m.String()
			if got = got[len(string(w.s.View().Run("r1").State)):]; got != want {
				rt.Fatalf("the state is\n %s\nthe model\n %s", got, want)
			}
			if over := w.s.View().Run("r1").State.Terminal(); over != m.over {
				rt.Fatalf("over %v, the model says %v", over, m.over)
			}
		}
	})
}

func (m *model) move(rt *rapid.T, w *world) {
	id := rapid.SampledFrom(m.defs).Draw(rt, "step").ID
	switch rapid.IntRange(0, 7).Draw(rt, "move") {
	case 0: // skip
		ok := m.state[id] != ci.StepPassed
		err := w.try(&SkipStep{Run: "r1", Step: id, Note: "why"})
		if (err == nil) != ok {
			rt.Fatalf("skip of %s (%s): %v", id, m.state[id], err)
		}
		m.skip(id)
	case 1: // retry
		mode := rapid.SampledFrom([]string{RetryFailed, RetryFrom, RetrySteps}).Draw(rt, "mode")
		ids, ok := m.opened(mode, id)
		err := w.try(&RetryRun{Run: "r1", Mode: mode, From: id, Steps: []string{id}})
		if (err == nil) != ok {
			rt.Fatalf("retry %s of %s (%s): %v", mode, id, m.state[id], err)
		}
		if ok {
			m.open(ids)
		}
	default:
		m.advance(rt, w, id)
	}
}

func (m *model) skip(id string) {
	switch s := m.state[id]; {
	case s == ci.StepPassed || s == ci.StepSkipped:
		return
	case s.Terminal():
		var free []string
		for _, d := range m.defs {
			if m.state[d.ID] == ci.StepNotRun && m.becauseOf(d.ID, []string{id}) {
				free = append(free, d.ID)
			}
		}
		m.open(free)
	}
	m.state[id] = ci.StepSkipped
}

// advance does what an engine would: end the step if it can, or the run.
func (m *model) advance(rt *rapid.T, w *world, id string) {
	if m.state[id] != ci.StepPending {
		all := true
		for _, s := range m.state {
			all = all && s.Terminal()
		}
		if all && !m.over {
			w.must(&SetRun{Run: "r1", State: ci.RunFailed})
			m.over = true
		}
		return
	}
	for _, n := range m.needs(id) {
		switch s := m.state[n]; {
		case failing(s) || s == ci.StepNotRun:
			w.end("r1", id, ci.StepNotRun, ci.ReasonDependencyFailed)
			m.state[id] = ci.StepNotRun
			return
		case !s.Terminal():
			return
		}
	}
	if rapid.Bool().Draw(rt, "passes") {
		w.pass("r1", id)
		m.state[id] = ci.StepPassed
	} else {
		w.fail("r1", id)
		m.state[id] = ci.StepFailed
	}
}
