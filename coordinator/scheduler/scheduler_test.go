package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/needs"
)

func TestMain(m *testing.M) { needs.NoLeaks(m) }

// bed is a state with a proposer that applies at once.
type bed struct {
	t     *testing.T
	store *state.Store
	begun time.Time

	mu    sync.Mutex
	index uint64
	fail  int // assignments to refuse as unavailable
}

func newBed(t *testing.T) *bed {
	b := &bed{t: t, store: state.New(), begun: time.Now()}
	b.must(&state.InitCluster{ID: "c", Seed: []byte("seed")})
	b.must(&state.CreateTenant{Tenant: ci.Tenant{ID: "t"}})
	return b
}

func (b *bed) now() ci.ClusterTime { return ci.ClusterTime(time.Since(b.begun)) }

func (b *bed) Propose(_ context.Context, c state.Command) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := c.Op.(*state.AssignAttempt); ok && b.fail > 0 {
		b.fail--
		return 0, ci.Errorf(ci.Unavailable, "no leader")
	}
	b.index++
	raw, err := state.EncodeEntry(state.Entry{Stamp: state.Stamp{Wall: time.Now(), Cluster: b.now()}, Commands: []state.Command{c}})
	if err != nil {
		return 0, err
	}
	return b.index, b.store.ApplyEntry(b.index, raw)[0]
}

func (b *bed) must(op state.Op) {
	b.t.Helper()
	if _, err := b.Propose(b.t.Context(), state.Command{Actor: ci.System, Op: op}); err != nil {
		b.t.Fatalf("%T: %v", op, err)
	}
}

func (b *bed) agent(id string, slots int) {
	b.must(&state.RegisterAgent{Agent: ci.Agent{
		ID: ci.AgentID(id), Name: id, BootID: "b", Queues: []string{"default"}, Executors: []string{"process"},
		Slots: slots, Capacity: ci.Resources{MilliCPU: 8000, Memory: 8 << 30}, State: ci.AgentReady,
	}})
}

// run makes a run of n steps and queues an attempt of each.
func (b *bed) run(id string, n int, notBefore ci.ClusterTime) {
	w := &ci.Workflow{Version: 1, Name: "w"}
	for i := range n {
		w.Steps = append(w.Steps, ci.Step{ID: fmt.Sprintf("s%d", i), Executor: "process", Queue: "default", Run: "x"})
	}
	hash, parts, err := state.PackWorkflow(w)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := range parts {
		b.must(&parts[i])
	}
	b.must(&state.CreateRun{Run: ci.Run{ID: ci.RunID(id), Tenant: "t", WorkflowHash: hash}})
	for i := range n {
		b.must(&state.QueueAttempt{Run: ci.RunID(id), Step: fmt.Sprintf("s%d", i), Attempt: ci.AttemptID(fmt.Sprintf("%s-%d", id, i)), NotBefore: notBefore})
	}
}

func (b *bed) assigned(id string) int {
	n := 0
	for _, s := range b.store.View().Run(ci.RunID(id)).Steps {
		if a := s.Last(); a != nil && a.State == ci.AttemptAssigned {
			n++
		}
	}
	return n
}

// schedule runs a scheduler in the bubble and stops it after act.
func (b *bed) schedule(act func(*Scheduler)) {
	s := New(Deps{Store: b.store, Proposer: b, Now: b.now, Log: slog.New(slog.DiscardHandler)})
	tasks := lifecycle.NewTasks(b.t.Context())
	tasks.Go("scheduler", func(ctx context.Context) {
		if err := s.Run(ctx); err != nil {
			b.t.Errorf("the scheduler ended: %v", err)
		}
	})
	synctest.Wait()
	act(s)
	if err := tasks.Stop(); err != nil {
		b.t.Error(err)
	}
	if _, ok := s.Why("r", "s0"); ok {
		b.t.Error("reasons outlive the term")
	}
}

func TestAssignsAndExplains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.run("r", 3, 0)
		b.schedule(func(s *Scheduler) {
			if why, ok := s.Why("r", "s0"); !ok || why.Code != ci.WaitNoAgent || why.Message == "" {
				t.Errorf("without agents: %+v %v", why, ok)
			}
			b.agent("a", 2) // its registration alone wakes the loop
			synctest.Wait()
			if n := b.assigned("r"); n != 2 {
				t.Errorf("%d of 3 steps assigned to 2 slots", n)
			}
			if why, ok := s.Why("r", "s2"); !ok || why.Code != ci.WaitAgentsFull {
				t.Errorf("the third waits because of %+v %v", why, ok)
			}
			b.agent("b", 2)
			synctest.Wait()
			if n := b.assigned("r"); n != 3 {
				t.Errorf("%d assigned with room for all", n)
			}
		})
	})
}

func TestPausesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.agent("a", 2)
		b.run("r", 1, b.now().Add(10*time.Second))
		b.schedule(func(s *Scheduler) {
			if why, _ := s.Why("r", "s0"); why.Code != ci.WaitBackoff || b.assigned("r") != 0 {
				t.Errorf("in its pause: %+v, %d assigned", why, b.assigned("r"))
			}
			time.Sleep(11 * time.Second) // of the bubble's own clock
			synctest.Wait()
			if b.assigned("r") != 1 {
				t.Error("not assigned after its pause")
			}
		})
	})
}

func TestUnknownOutcomesAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		b.agent("a", 4)
		b.run("r", 2, 0)
		b.fail = 3
		b.schedule(func(*Scheduler) {
			time.Sleep(time.Second) // of the bubble's own clock
			synctest.Wait()
			if n := b.assigned("r"); n != 2 {
				t.Errorf("%d assigned after failures", n)
			}
		})
	})
}
