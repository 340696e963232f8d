package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/needs"
)

func TestMain(m *testing.M) { needs.NoLeaks(m) }

// bed runs an engine in a bubble of its own time, over a log of one.
type bed struct {
	t     *testing.T
	start time.Time
	store *state.Store
	looks atomic.Int64 // how often the engine took a view

	mu    sync.Mutex
	index uint64
	ids   int
	fail  int // so many proposals do not reach the log

	statuses map[string]logpath.Status
	unread   error
}

func (b *bed) View() *state.View {
	b.looks.Add(1)
	return b.store.View()
}

func (b *bed) Watch() *state.Watcher { return b.store.Watch() }

func (b *bed) now() ci.ClusterTime { return ci.ClusterTime(time.Since(b.start)) }

func (b *bed) ProposeAll(_ context.Context, cmds []state.Command) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	errs := make([]error, len(cmds))
	for i, c := range cmds {
		if b.fail > 0 {
			b.fail--
			errs[i] = ci.Errorf(ci.Unavailable, "no leader")
			continue
		}
		_, errs[i] = b.apply(c)
	}
	return errs
}

func (b *bed) apply(c state.Command) (uint64, error) {
	b.index++
	data, err := state.EncodeEntry(state.Entry{
		Stamp:    state.Stamp{Wall: time.Now().UTC(), Cluster: b.now()},
		Commands: []state.Command{c},
	})
	if err != nil {
		return 0, err
	}
	return b.index, b.store.ApplyEntry(b.index, data)[0]
}

func (b *bed) must(op state.Op) {
	b.t.Helper()
	b.mu.Lock()
	_, err := b.apply(state.Command{Actor: ci.System, Op: op})
	b.mu.Unlock()
	if err != nil {
		b.t.Fatalf("%s: %v", op.Name(), err)
	}
	synctest.Wait()
}

func (b *bed) newID() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids++
	return fmt.Sprintf("t%03d", b.ids)
}

func (b *bed) Status(_ context.Context, p logpath.Path) (logpath.Status, bool, error) {
	st, ok := b.statuses[p.String()]
	return st, ok, b.unread
}

// wait lets d pass in the bubble.
func (b *bed) wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// inBed calls fn beside a running engine.
func inBed(t *testing.T, fn func(b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bed{t: t, start: time.Now(), store: state.New(), statuses: map[string]logpath.Status{}}
		b.must(&state.InitCluster{ID: "c"})
		b.must(&state.CreateTenant{Tenant: ci.Tenant{ID: "default"}})
		b.must(&state.RegisterAgent{Agent: ci.Agent{ID: "a1", Name: "host", BootID: "b", Slots: 9}})
		e := New(Deps{
			Source: b, Proposer: b, Now: b.now, NewID: b.newID, Status: b, Root: "s3://bucket/c",
			Explain: func(ci.RunID, string) string { return "nobody is there" },
			Log:     slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		tasks := lifecycle.NewTasks(ctx)
		tasks.Go("engine", func(ctx context.Context) {
			if err := e.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("engine: %v", err)
			}
		})
		synctest.Wait()
		fn(b)
		cancel()
		if err := tasks.Stop(); err != nil {
			t.Error(err)
		}
	})
}

func (b *bed) create(w *ci.Workflow) {
	b.t.Helper()
	for i := range w.Steps {
		w.Steps[i].Executor = ci.ExecutorProcess
		w.Steps[i].Run = "true"
	}
	hash, parts, err := state.PackWorkflow(w)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := range parts {
		b.must(&parts[i])
	}
	b.must(&state.CreateRun{Run: ci.Run{ID: theRun, Tenant: "default", WorkflowHash: hash}})
}

func (b *bed) last(step string) *ci.Attempt {
	b.t.Helper()
	a := b.store.View().Run(theRun).Step(step).Last()
	if a == nil {
		b.t.Fatalf("step %s is not queued", step)
	}
	return a
}

func (b *bed) begin(step string) *ci.Attempt {
	b.t.Helper()
	a := b.last(step)
	b.must(&state.AssignAttempt{Run: theRun, Step: step, Attempt: a.ID, Agent: "a1"})
	b.must(&state.AcceptAttempt{Run: theRun, Step: step, Attempt: a.ID, Fence: b.last(step).Fence, Agent: "a1", Incarnation: 1})
	return b.last(step)
}

func (b *bed) done(step string) {
	b.t.Helper()
	a := b.begin(step)
	b.must(&state.ReportAttempt{
		Run: theRun, Step: step, Attempt: a.ID, Fence: a.Fence, Agent: "a1", Incarnation: 1,
		Phase: state.PhaseFinal, Outcome: ci.AttemptSucceeded, Exited: true,
	})
}

func (b *bed) want(step string, want ci.StepState) {
	b.t.Helper()
	if s := b.store.View().Run(theRun).Step(step); s.State != want {
		b.t.Fatalf("step %s is %s (%s, %s), want %s", step, s.State, s.Reason, s.Message, want)
	}
}

func TestRunToItsEnd(t *testing.T) {
	t.Parallel()
	inBed(t, func(b *bed) {
		b.create(&ci.Workflow{Steps: []ci.Step{{ID: "a"}, {ID: "b", Needs: []string{"a"}}}})
		b.want("a", ci.StepQueued)
		b.done("a")
		b.want("a", ci.StepPassed)
		b.want("b", ci.StepQueued)
		b.done("b")
		if r := b.store.View().Run(theRun); r.State != ci.RunPassed {
			t.Fatalf("the run is %s", r.State)
		}
	})
}

// TestNothingPolls lets a day pass over a run that waits for its step: the
// engine must not look once.
func TestNothingPolls(t *testing.T) {
	t.Parallel()
	inBed(t, func(b *bed) {
		b.create(&ci.Workflow{Steps: []ci.Step{{ID: "a"}}})
		b.begin("a")
		before := b.looks.Load()
		b.wait(24 * time.Hour)
		if n := b.looks.Load() - before; n > 0 {
			t.Fatalf("the engine looked %d times at a state that did not change", n)
		}
	})
}

func TestDeadlinesWake(t *testing.T) {
	t.Parallel()
	inBed(t, func(b *bed) {
		b.create(&ci.Workflow{Timeout: time.Hour, QueueTimeout: time.Minute, Steps: []ci.Step{{ID: "a"}, {ID: "b"}}})
		b.must(&state.AssignAttempt{Run: theRun, Step: "a", Attempt: b.last("a").ID, Agent: "a1"})
		b.wait(AcceptTimeout)
		if n := b.last("a").Number; n != 2 {
			t.Fatalf("attempt %d after nobody accepted the first", n)
		}
		b.begin("a")
		b.wait(time.Minute)
		b.want("b", ci.StepExpired)
		if m := b.store.View().Run(theRun).Step("b").Message; m != "no agent took it within 1m0s: nobody is there" {
			t.Errorf("expired with %q", m)
		}
		b.wait(time.Hour)
		b.want("a", ci.StepCanceling)
		if a := b.last("a"); a.Want != ci.WantTimeout {
			t.Errorf("wants %s", a.Want)
		}
	})
}

func TestProposalsAreRepeated(t *testing.T) {
	t.Parallel()
	inBed(t, func(b *bed) {
		b.fail = 3
		b.create(&ci.Workflow{Steps: []ci.Step{{ID: "a"}}})
		if a := b.store.View().Run(theRun).Step("a").Last(); a != nil {
			t.Fatal("a failed proposal queued the step")
		}
		b.wait(3 * again)
		b.want("a", ci.StepQueued)
	})
}
