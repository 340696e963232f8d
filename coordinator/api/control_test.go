package api

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func TestCancel(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	run := b.submit().GetId()
	req := &pb.CancelRunRequest{Run: run, Reason: " superseded by hand ", IdempotencyKey: "c1"}
	for range 2 {
		res, err := b.runs.CancelRun(t.Context(), req)
		if err != nil || res.GetRun().GetState() != "canceling" || res.GetRun().GetReason() != "canceled_user" || res.GetRun().GetMessage() != "superseded by hand" {
			t.Fatalf("got %v, %v", res, err)
		}
	}
	_, err := b.runs.CancelRun(t.Context(), &pb.CancelRunRequest{Run: run, Reason: strings.Repeat("x", 5000)})
	wantErr(t, "long reason", err, ci.Invalid, "5000 bytes")
}

func TestSkipAndCancelStep(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	run := b.submit().GetId()
	_, err := b.runs.SkipStep(t.Context(), &pb.SkipStepRequest{Run: run, Step: "build", Reason: "  "})
	wantErr(t, "no reason", err, ci.Invalid, "without a reason")
	_, err = b.runs.SkipStep(t.Context(), &pb.SkipStepRequest{Run: run, Step: "biuld", Reason: "x"})
	wantErr(t, "no such step", err, ci.NotFound, "it has build, test")
	_, err = b.runs.CancelStep(t.Context(), &pb.CancelStepRequest{Run: run})
	wantErr(t, "no step", err, ci.Invalid, "names no step")
	res, err := b.runs.SkipStep(t.Context(), &pb.SkipStepRequest{Run: run, Step: "build", Reason: "built by hand"})
	if err != nil {
		t.Fatal(err)
	}
	if s := res.GetRun().GetSteps()[0]; s.GetState() != "skipped" || s.GetSkippedBy() != "token:ada" || s.GetMessage() != "built by hand" {
		t.Errorf("step: %v", s)
	}
	at := b.attempt(run, "test")
	canceled, err := b.runs.CancelStep(t.Context(), &pb.CancelStepRequest{Run: run, Step: "test", Reason: "hangs"})
	if err != nil || canceled.GetRun().GetSteps()[1].GetState() != "canceling" {
		t.Errorf("cancel step: %v, %v", canceled, err)
	}
	if got := b.store.View().Run(ci.RunID(run)).Step("test").Attempt(at.ID); got.Want != ci.WantCancel {
		t.Errorf("attempt: %+v", got)
	}
	// All of it is on record.
	audit, err := b.admin.ListAudit(t.Context(), &pb.ListAuditRequest{Run: run})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range audit.GetEntries() {
		got = append(got, e.GetActor()+" "+e.GetAction()+" "+e.GetStep()+" "+e.GetReason())
	}
	want := "token:ada step.cancel test hangs|token:ada step.skip build built by hand|token:ada run.create  "
	if strings.Join(got, "|") != want {
		t.Errorf("audit: %q", got)
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	run := b.submit().GetId()
	b.finish(run, "build", b.attempt(run, "build"), 0)
	b.finish(run, "test", b.attempt(run, "test"), 2)
	b.do(&state.SetRun{Run: ci.RunID(run), State: ci.RunFailed})
	if got := b.get(run); got.GetExitCode() != 1 || !got.GetFinal() {
		t.Errorf("finished: %v", got)
	}
	for name, c := range map[string]struct {
		req  *pb.RetryRunRequest
		text string
	}{
		"two ways":      {&pb.RetryRunRequest{Failed: true, From: "build"}, "only one of"},
		"two ways too":  {&pb.RetryRunRequest{Steps: []string{"build"}, From: "build"}, "only one of"},
		"odd variable":  {&pb.RetryRunRequest{Env: map[string]string{"A-B": "1"}}, "no name of a variable"},
		"bad parameter": {&pb.RetryRunRequest{Params: map[string]string{"suite": "slow"}}, "suite"},
	} {
		c.req.Run = run
		_, err := b.runs.RetryRun(t.Context(), c.req)
		wantErr(t, name, err, ci.Invalid, c.text)
	}
	_, err := b.runs.RetryRun(t.Context(), &pb.RetryRunRequest{Run: run, Steps: []string{"tset"}})
	wantErr(t, "no such step", err, ci.NotFound, "it has build, test")

	res, err := b.runs.RetryRun(t.Context(), &pb.RetryRunRequest{
		Run: run, Params: map[string]string{"suite": "full"}, Env: map[string]string{"DEBUG": "1"}, IdempotencyKey: "r1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := res.GetSteps(); len(got) != 1 || got[0] != "test" || res.GetRun().GetRound() != 2 || res.GetRun().GetState() == "failed" {
		t.Errorf("opened %v of %v", got, res.GetRun())
	}
	over := b.store.View().Run(ci.RunID(run)).Step("test").Override
	if len(over.Params) != 1 || over.Params["suite"] != "full" || over.Env["DEBUG"] != "1" {
		t.Errorf("override: %+v", over)
	}
	// The same key once more opens nothing.
	res, err = b.runs.RetryRun(t.Context(), &pb.RetryRunRequest{Run: run, IdempotencyKey: "r1"})
	if err != nil || len(res.GetSteps()) != 0 {
		t.Errorf("again: %v, %v", res, err)
	}
}

func TestWaitReasons(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	run := b.submit().GetId()
	wait := func(step int) *pb.WaitReason { t.Helper(); return b.get(run).GetSteps()[step].GetWaitReason() }
	if w := wait(1); w.GetCode() != "waiting_for" || w.GetMessage() != "waits for build" || w.GetDetail() != "build" {
		t.Errorf("test: %v", w)
	}
	if w := wait(0); w.GetCode() == "" || w.GetMessage() == "" {
		t.Errorf("build: %v", w)
	}
	b.leader = false
	if w := wait(0); w.GetCode() != "no_quorum" {
		t.Errorf("without a leader: %v", w)
	}
	b.leader = true
	b.do(&state.QueueAttempt{Run: ci.RunID(run), Step: "build", Attempt: "at1", NotBefore: b.store.View().Stamp().Cluster.Add(20 * time.Second)})
	if w := wait(0); w.GetCode() != "backoff" || !strings.Contains(w.GetMessage(), "tried again in 1") {
		t.Errorf("backoff: %v", w)
	}
	b.why.why["build"] = ci.WaitReason{Code: ci.WaitAgentsFull, Message: "all 3 agents are full", Since: time.Unix(100, 0)}
	if w := wait(0); w.GetCode() != "agents_full" || w.GetSince().GetSeconds() != 100 {
		t.Errorf("scheduler's: %v", w)
	}
	ex, err := b.runs.ExplainStep(t.Context(), &pb.ExplainStepRequest{Run: run, Step: "build"})
	if err != nil || !strings.Contains(strings.Join(ex.GetExplanation(), "\n"), "it has not begun: all 3 agents are full, since 1970") {
		t.Errorf("explain: %v, %v", ex, err)
	}
	b.do(&state.WantAttempt{Run: ci.RunID(run), Step: "build", Attempt: "at1", Want: ci.WantCancel})
}

func TestExplain(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	run := b.submit().GetId()
	b.finish(run, "build", b.attempt(run, "build"), 7)
	explain := func(step string) string {
		t.Helper()
		ex, err := b.runs.ExplainStep(t.Context(), &pb.ExplainStepRequest{Run: run, Step: step})
		if err != nil {
			t.Fatal(err)
		}
		if ex.GetStep().GetId() != step {
			t.Errorf("step: %v", ex.GetStep())
		}
		return strings.Join(ex.GetExplanation(), "\n")
	}
	if got, want := explain("build"), "step build is failed (exit_code)\nattempt 1 on builder: failed (exit_code), exit code 7"; got != want {
		t.Errorf("build:\n%s\nwant\n%s", got, want)
	}
	if got := explain("test"); !strings.Contains(got, "it needs step build, which is failed (exit_code)") {
		t.Errorf("test:\n%s", got)
	}
	if _, err := b.runs.SkipStep(t.Context(), &pb.SkipStepRequest{Run: run, Step: "build", Reason: "known flake"}); err != nil {
		t.Fatal(err)
	}
	if got := explain("build"); !strings.Contains(got, "ada skipped it: known flake") {
		t.Errorf("skipped:\n%s", got)
	}
}
