package scheduler

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/coordinator/queue"
	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/expr"
)

// Store is the replicated state as the scheduler reads it.
type Store interface {
	View() *state.View
	Watch() *state.Watcher
}

// Deps is what a Scheduler works with.
type Deps struct {
	Store    Store
	Proposer state.Proposer
	Now      func() ci.ClusterTime // the leader's running cluster time
	Log      *slog.Logger
}

// Scheduler gives waiting steps to agents. Its loop lives in a leader's term;
// what it knows of reasons is the leader's alone.
type Scheduler struct {
	deps Deps

	mu   sync.Mutex
	term *term // nil while not leading
}

// New returns a scheduler that does nothing until Run.
func New(deps Deps) *Scheduler { return &Scheduler{deps: deps} }

// term is what one term of leading knows.
type term struct {
	fair    *queue.Fair
	waiting map[ci.AttemptID]*waiting
	byRun   map[ci.RunID]map[ci.AttemptID]bool
	paused  map[ci.AttemptID]bool // not in line yet
	why     map[string]WhyNot     // by tenant and class, of the last pass
	warm    map[string]ci.AgentID
}

// waiting is a queued attempt.
type waiting struct {
	run       ci.RunID
	step      string
	tenant    ci.TenantID
	need      Need
	class     string
	notBefore ci.ClusterTime
	since     ci.ClusterTime
	queuedAt  time.Time
	warmKey   string
}

func newTerm() *term {
	return &term{
		fair: queue.NewFair(), waiting: map[ci.AttemptID]*waiting{}, byRun: map[ci.RunID]map[ci.AttemptID]bool{},
		paused: map[ci.AttemptID]bool{}, why: map[string]WhyNot{}, warm: map[string]ci.AgentID{},
	}
}

// maxInFlight bounds the assignments proposed at once; they share log entries.
const maxInFlight = 256

// Run schedules until ctx ends. It wakes when the state changes and when a
// pause of a retry is over; it never polls.
func (s *Scheduler) Run(ctx context.Context) error {
	w := s.deps.Store.Watch()
	defer w.Close()
	t := newTerm()
	s.mu.Lock()
	s.term = t
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.term = nil
		s.mu.Unlock()
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.C():
		case <-timer.C:
		}
		changed := w.Changed()
		view := s.deps.Store.View()
		s.mu.Lock()
		t.learn(view, changed)
		wait := t.ready(s.deps.Now())
		placed := t.pass(view)
		s.mu.Unlock()
		if !s.assign(ctx, placed) {
			wait = min(wait, retryAfter)
		}
		timer.Reset(wait)
	}
}

// retryAfter is the pause after an assignment whose outcome is unknown.
const retryAfter = 200 * time.Millisecond

// assign proposes the placements and reports whether each was answered. One
// that the state refuses has changed meanwhile, and one whose outcome is unknown
// may have been applied: either way its run is looked at anew.
func (s *Scheduler) assign(ctx context.Context, placed []*state.AssignAttempt) bool {
	var g errgroup.Group
	g.SetLimit(maxInFlight)
	for _, op := range placed {
		g.Go(func() error {
			_, err := s.deps.Proposer.Propose(ctx, state.Command{Actor: ci.System, Op: op})
			if err == nil {
				return nil
			}
			s.deps.Log.Debug("an assignment did not go through", "run", op.Run, "step", op.Step, "error", err)
			s.mu.Lock()
			s.term.forget(op.Run)
			s.term.learnRun(s.deps.Store.View().Run(op.Run))
			s.mu.Unlock()
			return err
		})
	}
	return g.Wait() == nil
}

// learn takes over what changed.
func (t *term) learn(v *state.View, c state.Changes) {
	if !c.All {
		for _, id := range c.Runs {
			t.forget(id)
			t.learnRun(v.Run(id))
		}
		return
	}
	for id := range t.byRun {
		t.forget(id)
	}
	v.ActiveRuns(func(r *ci.Run) bool { t.learnRun(r); return true })
}

// forget drops what a run has waiting.
func (t *term) forget(id ci.RunID) {
	for a := range t.byRun[id] {
		t.fair.Remove(a)
		delete(t.waiting, a)
		delete(t.paused, a)
	}
	delete(t.byRun, id)
}

func (t *term) learnRun(r *ci.Run) {
	if r == nil {
		return
	}
	for i, s := range r.Steps {
		a := s.Last()
		if a == nil {
			continue
		}
		warmKey := string(r.Tenant) + "/" + r.Workflow.Name + "/" + s.ID
		if a.State == ci.AttemptSucceeded {
			t.warm[warmKey] = a.Agent
		}
		if a.State != ci.AttemptQueued || a.Want != ci.WantRun {
			continue
		}
		rendered, err := expr.RenderStep(r, &r.Workflow.Steps[i])
		if err != nil {
			continue // the engine renders before it queues; it ends the step
		}
		n := Need{
			Tenant: r.Tenant, Executor: rendered.Executor, Queue: rendered.Queue, Tags: rendered.Tags,
			Resources: a.Resources, Warm: t.warm[warmKey],
		}
		if a.PreferOther {
			for _, old := range s.Attempts {
				if old.Agent != "" {
					n.Avoid = append(n.Avoid, old.Agent)
				}
			}
		}
		t.waiting[a.ID] = &waiting{
			run: r.ID, step: s.ID, tenant: r.Tenant, need: n, class: n.class(),
			notBefore: a.NotBefore, since: a.QueuedSince, queuedAt: a.QueuedAt, warmKey: warmKey,
		}
		t.paused[a.ID] = true
		if t.byRun[r.ID] == nil {
			t.byRun[r.ID] = map[ci.AttemptID]bool{}
		}
		t.byRun[r.ID][a.ID] = true
	}
}

// ready puts in line what has no pause left, and returns how long until the
// next pause is over.
func (t *term) ready(now ci.ClusterTime) time.Duration {
	wait := time.Hour
	for id := range t.paused {
		w := t.waiting[id]
		if w.notBefore > now {
			wait = min(wait, w.notBefore.Sub(now))
			continue
		}
		t.fair.Add(queue.Item{Attempt: id, Tenant: w.tenant, Class: w.class, Since: w.since, Cost: 1})
		delete(t.paused, id)
	}
	return max(wait, time.Millisecond)
}

// pass places what can be placed and keeps the reasons of the rest.
func (t *term) pass(v *state.View) []*state.AssignAttempt {
	clear(t.why)
	if t.fair.Len() == 0 {
		return nil
	}
	fleet := NewFleet(v)
	var placed []*state.AssignAttempt
	t.fair.Pass(func(item queue.Item) bool {
		w := t.waiting[item.Attempt]
		agent, why := Place(w.need, fleet)
		if agent == "" {
			t.why[string(w.tenant)+"/"+w.class] = why
			return false
		}
		placed = append(placed, &state.AssignAttempt{Run: w.run, Step: w.step, Attempt: item.Attempt, Agent: agent, Resources: w.need.Resources})
		delete(t.waiting, item.Attempt)
		delete(t.byRun[w.run], item.Attempt)
		return true
	})
	return placed
}

// Why says why a queued step has no agent yet; false when it is not waiting for
// one, or this member does not lead.
func (s *Scheduler) Why(run ci.RunID, step string) (ci.WaitReason, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.term == nil {
		return ci.WaitReason{}, false
	}
	for id := range s.term.byRun[run] {
		w := s.term.waiting[id]
		if w == nil || w.step != step {
			continue
		}
		return s.term.reason(id, w), true
	}
	return ci.WaitReason{}, false
}

func (t *term) reason(id ci.AttemptID, w *waiting) ci.WaitReason {
	out := ci.WaitReason{Since: w.queuedAt}
	why, refused := t.why[string(w.tenant)+"/"+w.class]
	switch {
	case t.paused[id]:
		out.Code, out.Message = ci.WaitBackoff, "pausing before it is tried again"
		out.Detail = "until cluster time " + w.notBefore.String()
	case refused:
		out.Code, out.Message, out.Detail = why.Code, why.Message, why.Detail
	default:
		out.Code, out.Message = ci.WaitFairShare, "its turn comes next"
	}
	return out
}
