package dispatch

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func TestRegister(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := b.agent("n1")
	res, err := a.client.Register(t.Context(), a.introduction())
	if err != nil {
		t.Fatal(err)
	}
	if res.GetIncarnation() != 1 || res.GetAgentId() != "n1" || res.GetStore().GetRoot() != "s3://bucket/p/c1" || res.GetHeartbeatSeconds() != 0.3 {
		t.Errorf("got %v", res)
	}
	for name, c := range map[string]struct {
		agent string
		edit  func(*pb.RegisterRequest)
		want  string
	}{
		"another cluster":     {"n1", func(r *pb.RegisterRequest) { r.Cluster = "c9" }, "invalid cluster"},
		"nameless":            {"n1", func(r *pb.RegisterRequest) { r.Name = "" }, "invalid "},
		"no slots":            {"n1", func(r *pb.RegisterRequest) { r.Slots = 0 }, "invalid "},
		"no certificate":      {"", nil, "unauthenticated "},
		"a coordinator":       {"coordinator", nil, "forbidden "},
		"of another cluster":  {"stranger", nil, "forbidden "},
		"the same once again": {"n1", nil, "<nil>"},
	} {
		a := b.agent(c.agent)
		req := a.introduction()
		if c.edit != nil {
			c.edit(req)
		}
		if _, err := a.client.Register(t.Context(), req); kindAndField(err) != c.want {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := b.store.View().Agent("n1"); got.Incarnation != 2 || got.State != ci.AgentReady || got.Name != "host-n1" {
		t.Errorf("stored: %+v", got)
	}
}

func TestOldSessionIsRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	old := b.registered("n1")
	stream := old.listen(nil)
	stream.next(t)
	b.registered("n1")
	if err := stream.ended(t); kindAndField(err) != "conflict incarnation" {
		t.Errorf("stream: %v", err)
	}
	_, err := old.client.Accept(t.Context(), &pb.AcceptRequest{Incarnation: old.incarnation, Attempt: "x"})
	if kindAndField(err) != "conflict incarnation" {
		t.Errorf("accept: %v", err)
	}
	_, err = old.client.Report(t.Context(), wire.ReportMessage(old.incarnation, &wire.Report{Phase: wire.PhaseRejected}))
	if kindAndField(err) != "conflict incarnation" {
		t.Errorf("report: %v", err)
	}
	res, err := old.client.Heartbeat(t.Context(), &pb.HeartbeatRequest{Incarnation: old.incarnation})
	if err != nil || res.GetKnown() {
		t.Errorf("heartbeat: %v, %v", res, err)
	}
}

func TestAssignmentsFullThenDeltas(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := b.registered("n1")
	b.registered("n2")
	run, first := b.run(
		ci.Step{ID: "plan", Executor: ci.ExecutorProcess, Run: "true", Outputs: map[string]string{"v": "v"}},
		ci.Step{ID: "build", Executor: ci.ExecutorProcess, Run: "make", Needs: []string{"plan"}, Env: map[string]string{"WHO": "${{ params.who }}"}})
	b.assign(run, first, "n1")
	stream := a.listen(nil)
	m := stream.next(t)
	if !m.GetFull() || len(m.GetAssignments()) != 1 || m.GetIndex().GetEpoch() != 1 || m.GetIndex().GetApplied() == 0 {
		t.Fatalf("full set: %v", m)
	}
	got, err := wire.AssignmentFrom(m.GetAssignments()[0])
	if err != nil {
		t.Fatal(err)
	}
	want := &wire.Assignment{
		Attempt: first, Fence: 1, Number: 1, Generation: 1, Tenant: "shop", Run: run, Workflow: "main",
		Step: ci.Step{
			ID: "build", Executor: ci.ExecutorProcess, Run: "make", Needs: []string{"plan"},
			Env: map[string]string{"WHO": "ada"}, Resources: ci.Resources{MilliCPU: 500},
		},
		Source: ci.Source{Repo: "/src", SHA: "0123"}, Params: map[string]string{"who": "ada"},
		LogPath:   "s3://bucket/p/c1/t/shop/r/" + string(run) + "/build/1-1",
		CacheSeed: cacheSeed([]byte("seed"), "shop"),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	// Another agent's business, and a change that tells this one nothing.
	other, second := b.run()
	b.assign(other, second, "n2")
	b.do(&state.AcceptAttempt{Run: run, Step: "build", Attempt: first, Fence: 1, Agent: "n1"})
	stream.quiet(t)

	b.do(&state.WantAttempt{Run: run, Step: "build", Attempt: first, Want: ci.WantCancel, Reason: ci.ReasonCanceledUser})
	m = stream.next(t)
	if m.GetFull() || len(m.GetAssignments()) != 1 || m.GetAssignments()[0].GetWant() != "cancel" || m.GetAssignments()[0].GetWantReason() != "canceled_user" {
		t.Fatalf("want: %v", m)
	}
	b.do(&state.LoseAttempt{Run: run, Step: "build", Attempt: first, Fence: 1, Reason: ci.ReasonAgentLost})
	m = stream.next(t)
	if len(m.GetAssignments()) != 0 || len(m.GetRemoved()) != 1 || m.GetRemoved()[0] != string(first) {
		t.Fatalf("removed: %v", m)
	}
}

// A state of which half is there must not make agents believe that they are
// unknown or have nothing to do.
func TestNotReady(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := b.registered("n1")
	b.starting.Store(true)
	if err := a.beat(); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("heartbeat: %v", err)
	}
	if err := a.listen(nil).ended(t); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("stream: %v", err)
	}
	b.starting.Store(false)
	if err := a.beat(); err != nil {
		t.Errorf("heartbeat: %v", err)
	}
}

func TestSetIsNeverOlderThanSeen(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := b.registered("n1")
	ahead := b.store.View().Index() + 2
	stream := a.listen(&pb.SetIndex{Epoch: 1, Applied: ahead})
	stream.quiet(t)
	b.do(&state.Tick{})
	b.do(&state.Tick{})
	if m := stream.next(t); m.GetIndex().GetApplied() < ahead {
		t.Errorf("got %v, want at least %d", m, ahead)
	}
}

func TestNewStreamEndsTheOld(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := b.registered("n1")
	first := a.listen(nil)
	first.next(t)
	second := a.listen(nil)
	second.next(t)
	if err := first.ended(t); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("got %v", err)
	}
	b.stop()
	if err := second.ended(t); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("got %v", err)
	}
	if err := a.listen(nil).ended(t); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("a stopped coordinator took a stream: %v", err)
	}
}

// A step that cannot be rendered must not hang: nobody else would end it.
func TestUnrenderableStepIsRejected(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := b.registered("n1")
	run, attempt := b.run(ci.Step{ID: "build", Executor: ci.ExecutorProcess, Run: "x", Queue: "${{ params.nobody }}"})
	b.assign(run, attempt, "n1")
	if m := a.listen(nil).next(t); len(m.GetAssignments()) != 0 {
		t.Errorf("got %v", m)
	}
	b.eventually("the attempt is rejected", func() bool {
		at := b.attempt(run, attempt)
		return at.State == ci.AttemptRejected && at.Reason == ci.ReasonExpression && at.Message != ""
	})
}

func TestAcceptAndReport(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := b.registered("n1")
	run, id := b.run()
	b.assign(run, id, "n1")
	accept := func(fence uint64, id string) *pb.AcceptResponse {
		t.Helper()
		res, err := a.client.Accept(t.Context(), &pb.AcceptRequest{Incarnation: a.incarnation, Attempt: id, Fence: fence})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if accept(9, string(id)).GetRun() || accept(1, "nobody").GetRun() {
		t.Error("a wrong fence or attempt was accepted")
	}
	for range 2 { // also when the first answer was lost
		if res := accept(1, string(id)); !res.GetRun() || res.GetWant() != "run" {
			t.Errorf("accept: %v", res)
		}
	}
	report := func(r wire.Report) bool {
		t.Helper()
		r.Attempt, r.Fence = id, 1
		res, err := a.client.Report(t.Context(), wire.ReportMessage(a.incarnation, &r))
		if err != nil {
			t.Fatal(err)
		}
		return res.GetAccepted()
	}
	exited := wire.Report{
		Phase: wire.PhaseExited, Outcome: ci.AttemptFailed, Reason: ci.ReasonExitCode, Exited: true, ExitCode: 3,
		Outputs: map[string]string{"k": "v"}, Log: ci.LogManifest{Lines: 4}, StartedAt: time.Unix(5, 0), FinishedAt: time.Unix(9, 0),
	}
	final := exited
	final.Phase, final.Artifacts = wire.PhaseFinal, []ci.Artifact{{Path: "a", Size: 1, SHA256: "s"}}
	for _, r := range []wire.Report{exited, exited, final, final} {
		if !report(r) {
			t.Errorf("a report or its replay was refused: %+v", r)
		}
	}
	at := b.attempt(run, id)
	if at.State != ci.AttemptFailed || at.ExitCode != 3 || !at.Exited || at.Log.Lines != 4 || len(at.Artifacts) != 1 || at.Reason != ci.ReasonExitCode || !at.StartedAt.Equal(time.Unix(5, 0)) {
		t.Errorf("attempt: %+v", at)
	}
	other := final
	other.Outcome, other.ExitCode = ci.AttemptSucceeded, 0
	if report(other) {
		t.Error("a second, different result was accepted")
	}
	stranger := b.registered("n2")
	res, err := stranger.client.Report(t.Context(), wire.ReportMessage(stranger.incarnation, &wire.Report{Attempt: id, Fence: 1, Phase: wire.PhaseFinal, Outcome: ci.AttemptFailed}))
	if err != nil || res.GetAccepted() {
		t.Errorf("another agent's report: %v, %v", res, err)
	}
	b.log.breakWith(ci.Errorf(ci.Unavailable, "no leader"))
	if _, err := a.client.Report(t.Context(), wire.ReportMessage(a.incarnation, &wire.Report{Attempt: id, Fence: 1, Phase: wire.PhaseFinal, Outcome: ci.AttemptFailed})); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("without a leader: %v", err)
	}
}

func TestRejected(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := b.registered("n1")
	run, id := b.run()
	b.assign(run, id, "n1")
	res, err := a.client.Report(t.Context(), wire.ReportMessage(a.incarnation, &wire.Report{
		Attempt: id, Fence: 1, Phase: wire.PhaseRejected, Reason: ci.ReasonImagePull, Message: "no such image",
	}))
	if err != nil || !res.GetAccepted() {
		t.Fatalf("got %v, %v", res, err)
	}
	if at := b.attempt(run, id); at.State != ci.AttemptRejected || at.Reason != ci.ReasonImagePull || !strings.Contains(at.Message, "no such") {
		t.Errorf("attempt: %+v", at)
	}
}
