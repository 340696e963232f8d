package state

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/shared/ci"
)

// history remembers what may never change again.
type history struct {
	views    []*View
	hashes   [][32]byte
	terminal map[ci.AttemptID]ci.Attempt
	rank     map[ci.AttemptID]ci.AttemptState
	results  map[string]ci.AttemptID // by run, step, generation
	fence    uint64
	step     int
}

func newHistory() *history {
	return &history{
		terminal: make(map[ci.AttemptID]ci.Attempt),
		rank:     make(map[ci.AttemptID]ci.AttemptState),
		results:  make(map[string]ci.AttemptID),
	}
}

// check checks every invariant of a view, and that some earlier views are what
// they were.
func (h *history) check(v *View) error {
	h.step++
	if h.step%16 == 0 || len(h.views) < 4 {
		h.views, h.hashes = append(h.views, v), append(h.hashes, v.Hash())
	}
	if n := len(h.views); n > 8 {
		if err := h.unchanged(); err != nil {
			return err
		}
		h.views, h.hashes = h.views[n/2:], h.hashes[n/2:]
	}
	if v.Fence() < h.fence {
		return fmt.Errorf("the fence fell from %d to %d", h.fence, v.Fence())
	}
	h.fence = v.Fence()
	var err error
	v.t.runs.scan(func(_ ci.RunID, r *ci.Run) bool {
		err = h.checkRun(r)
		return err == nil
	})
	if err != nil {
		return err
	}
	return checkDerived(v)
}

// unchanged reports a row that was edited instead of replaced.
func (h *history) unchanged() error {
	for i, v := range h.views {
		if v.Hash() != h.hashes[i] {
			return fmt.Errorf("the view of entry %d has changed since", v.Index())
		}
	}
	return nil
}

func (h *history) checkRun(r *ci.Run) error {
	if len(r.Steps) != len(r.Workflow.Steps) {
		return fmt.Errorf("run %s has %d steps of %d", r.ID, len(r.Steps), len(r.Workflow.Steps))
	}
	for i, s := range r.Steps {
		if s.ID != r.Workflow.Steps[i].ID {
			return fmt.Errorf("run %s: step %d is %s", r.ID, i, s.ID)
		}
		if r.State.Terminal() && !s.State.Terminal() {
			return fmt.Errorf("run %s is %s and its step %s %s", r.ID, r.State, s.ID, s.State)
		}
		if err := h.checkStep(r, s); err != nil {
			return fmt.Errorf("run %s step %s: %w", r.ID, s.ID, err)
		}
	}
	return nil
}

func (h *history) checkStep(r *ci.Run, s *ci.StepRun) error {
	live, gen := 0, 0
	for j, a := range s.Attempts {
		if a.Number != j+1 || a.Generation < gen || a.Generation > s.Generation {
			return fmt.Errorf("attempt %d has number %d and generation %d after %d", j, a.Number, a.Generation, gen)
		}
		gen = a.Generation
		if a.Live() {
			live++
		}
		if a.State < h.rank[a.ID] {
			return fmt.Errorf("attempt %d fell from %s to %s", a.Number, h.rank[a.ID], a.State)
		}
		h.rank[a.ID] = a.State
		if old, ok := h.terminal[a.ID]; ok && !reflect.DeepEqual(old, *a) {
			return fmt.Errorf("I2: attempt %d was over and has changed: %s", a.Number, cmp.Diff(old, *a))
		}
		if !a.Live() {
			h.terminal[a.ID] = *a
		}
	}
	if live > 1 {
		return fmt.Errorf("I1: %d live attempts", live)
	}
	if last := s.Last(); s.State.Terminal() && last != nil && last.Decided() == 0 {
		return fmt.Errorf("is %s and its attempt %s", s.State, last.State)
	}
	if s.Result == "" {
		return nil
	}
	key := fmt.Sprint(r.ID, s.ID, s.Generation)
	if was, ok := h.results[key]; ok && was != s.Result {
		return fmt.Errorf("I3: result was attempt %s and is %s", was, s.Result)
	}
	h.results[key] = s.Result
	if a := s.Attempt(s.Result); a == nil || a.Decided() == 0 {
		return fmt.Errorf("I3: its result %s is not decided", s.Result)
	}
	return nil
}

// checkDerived recomputes what is kept beside the rows.
func checkDerived(v *View) error {
	waiting := make(map[ci.TenantID]int)
	load := make(map[ci.AgentID]Load)
	var active, liveRefs []string
	v.t.runs.scan(func(_ ci.RunID, r *ci.Run) bool {
		waiting[r.Tenant] += waitingSteps(r)
		if !quiet(r) {
			active = append(active, string(r.ID))
		}
		liveKeys(r, func(s string) { liveRefs = append(liveRefs, s) })
		for _, s := range r.Steps {
			for _, a := range s.Attempts {
				if reserving(a) {
					l := load[a.Agent]
					load[a.Agent] = Load{l.Slots + 1, l.Resources.Add(a.Resources)}
				}
			}
		}
		return true
	})
	for _, t := range v.Tenants() {
		if v.QueuedSteps(t.ID) != waiting[t.ID] {
			return fmt.Errorf("tenant %s has %d waiting steps, %d are said", t.ID, waiting[t.ID], v.QueuedSteps(t.ID))
		}
	}
	for _, a := range v.Agents() {
		if v.Load(a.ID) != load[a.ID] {
			return fmt.Errorf("agent %s holds %+v, %+v is said", a.ID, load[a.ID], v.Load(a.ID))
		}
		l := load[a.ID]
		if l.Slots > a.Slots || l.Resources.MilliCPU > a.Capacity.MilliCPU || l.Resources.Memory > a.Capacity.Memory {
			return fmt.Errorf("I4: agent %s holds %+v of %d slots and %+v", a.ID, l, a.Slots, a.Capacity)
		}
	}
	if got := keysOf(v.t.runs.indexes[runsActive]); !slices.Equal(got, active) {
		return fmt.Errorf("active runs are %q, the index says %q", active, got)
	}
	slices.Sort(liveRefs)
	if got := keysOf(v.t.runs.indexes[runsLive]); !slices.Equal(got, liveRefs) {
		return fmt.Errorf("live attempts are %q, the index says %q", liveRefs, got)
	}
	return nil
}

func keysOf[V any](x *index[V]) []string {
	var out []string
	x.ascend("", func(s string) bool { out = append(out, s); return true })
	return out
}
