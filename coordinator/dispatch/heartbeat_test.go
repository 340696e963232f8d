package dispatch

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func (a *agent) beat(ps ...wire.Progress) error {
	req := &pb.HeartbeatRequest{Incarnation: a.incarnation}
	for i := range ps {
		req.Attempts = append(req.Attempts, wire.ProgressMessage(&ps[i]))
	}
	res, err := a.client.Heartbeat(a.bed.t.Context(), req)
	if err == nil && !res.GetKnown() {
		return ci.Errorf(ci.Conflict, "not known")
	}
	return err
}

func TestHeartbeatNeedsAQuorum(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := b.registered("n1")
	if err := a.beat(); err != nil {
		t.Fatal(err)
	}
	if b.verifies.Load() != 1 {
		t.Errorf("%d verifications", b.verifies.Load())
	}
	b.noLeader.Store(true)
	if err := a.beat(); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("without a leader: %v", err)
	}
}

func TestHeartbeatsAreBatched(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var agents []*agent
	for _, n := range []string{"n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"} {
		agents = append(agents, b.registered(n))
	}
	if err := agents[0].beat(); err != nil { // the next batch has to pause
		t.Fatal(err)
	}
	before := b.verifies.Load()
	var g errgroup.Group
	for _, a := range agents {
		g.Go(func() error { return a.beat() })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := b.verifies.Load() - before; n >= int64(len(agents)) {
		t.Errorf("%d heartbeats took %d verifications", len(agents), n)
	}
}

func TestProgressIsWrittenOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := b.registered("n1")
	run, id := b.run()
	b.assign(run, id, "n1")
	b.do(&state.AcceptAttempt{Run: run, Step: "build", Attempt: id, Fence: 1, Agent: "n1"})
	p := wire.Progress{Attempt: id, Fence: 1, State: ci.AttemptRunning, StartedAt: time.Unix(7, 0), Progress: 0.5, Note: "half", ImageDigest: "sha256:x"}
	for range 3 {
		if err := a.beat(p); err != nil {
			t.Fatal(err)
		}
	}
	at := b.attempt(run, id)
	if at.State != ci.AttemptRunning || at.Progress != 0.5 || at.Note != "half" || at.ImageDigest != "sha256:x" || !at.StartedAt.Equal(time.Unix(7, 0)) {
		t.Errorf("attempt: %+v", at)
	}
	if n := b.log.count("attempt.progress"); n != 1 {
		t.Errorf("%d entries for one piece of news", n)
	}
	p.Progress = 0.6
	stale, odd := p, p
	stale.Fence, stale.Progress = 9, 0.9
	odd.State = ci.AttemptSucceeded
	if err := a.beat(stale, odd, p, wire.Progress{Attempt: "nobody", State: ci.AttemptRunning}); err != nil {
		t.Fatal(err)
	}
	if at := b.attempt(run, id); at.Progress != 0.6 || at.State != ci.AttemptRunning {
		t.Errorf("attempt: %+v", at)
	}
	b.log.breakWith(ci.Errorf(ci.Unavailable, "no leader"))
	p.Progress = 0.7
	if err := a.beat(p); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("an uncommitted batch was acknowledged: %v", err)
	}
}

func (b *bed) lead() (stop func()) {
	tasks := lifecycle.NewTasks(context.Background())
	tasks.Go("liveness", func(ctx context.Context) {
		if err := b.service.Liveness(ctx); err != nil {
			b.t.Errorf("liveness: %v", err)
		}
	})
	return func() { _ = tasks.Stop() }
}

func TestLiveness(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := b.registered("n1")
	stop := b.lead()
	defer stop()
	stateOf := func() ci.AgentState { return b.store.View().Agent("n1").State }
	b.eventually("the agent is flagged", func() bool { return stateOf() == ci.AgentSilent })
	if err := a.beat(); err != nil {
		t.Fatal(err)
	}
	b.eventually("the flag is taken away", func() bool { return stateOf() == ci.AgentReady })
	b.eventually("who was heard is recorded", func() bool {
		if err := a.beat(); err != nil {
			t.Fatal(err)
		}
		return b.log.count("agent.checkpoint") > 0
	})
}

// A new leader has heard nobody: it gives everyone time, but does not believe
// that the silent are back.
func TestLivenessOfANewTerm(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, id := range []ci.AgentID{"old", "mute"} {
		b.do(&state.RegisterAgent{Agent: ci.Agent{ID: id, Name: string(id), BootID: "b", Slots: 1}})
	}
	b.do(&state.AgentSilent{ID: "mute"})
	now := time.Now()
	if ops := b.service.judge(now, now); len(ops) != 0 {
		t.Errorf("at the start of a term: %v", ops)
	}
	late := now.Add(b.service.cfg.SuspectAfter)
	ops := b.service.judge(now, late)
	if len(ops) != 1 {
		t.Fatalf("after a silent term: %d ops", len(ops))
	}
	if op, ok := ops[0].(*state.AgentSilent); !ok || op.ID != "old" {
		t.Errorf("got %+v", ops[0])
	}
}
