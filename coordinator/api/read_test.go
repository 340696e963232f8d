package api

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// ship puts a log of n lines into the bucket.
func (b *bed) ship(run, step string, at *ci.Attempt, n int) {
	b.t.Helper()
	path := logpath.New("s3://bucket/p/c1", ci.DefaultTenant, ci.RunID(run), step, at.Number, at.Fence)
	var text []byte
	for i := range n {
		text = logpath.AppendRecord(text, logpath.Record{Time: time.Unix(int64(i), 0), Stream: logpath.Stderr, Data: fmt.Appendf(nil, "line %d", i), Partial: i == 0})
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.put(path.Chunk(1), enc.EncodeAll(text, nil))
}

func TestReadLog(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	run := b.submit().GetId()
	read := func(req *pb.ReadLogRequest) *pb.ReadLogResponse {
		t.Helper()
		req.Run = run
		if req.Step == "" {
			req.Step = "build"
		}
		res, err := b.runs.ReadLog(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	if res := read(&pb.ReadLogRequest{WaitSeconds: 0.05}); res.GetEnd() || res.GetAttempt() != 0 || res.GetCursor() != "0" {
		t.Errorf("nothing yet: %v", res)
	}
	at := b.attempt(run, "build")
	b.ship(run, "build", at, 5)
	live := read(&pb.ReadLogRequest{Limit: 3})
	if len(live.GetRecords()) != 3 || live.GetCursor() != "3" || live.GetEnd() || live.GetAttempt() != 1 {
		t.Errorf("live: %v", live)
	}
	if r := live.GetRecords()[0]; r.GetStream() != "stderr" || string(r.GetData()) != "line 0" || !r.GetPartial() || r.GetAt() == nil {
		t.Errorf("record: %v", r)
	}
	if res := read(&pb.ReadLogRequest{Cursor: "3"}); len(res.GetRecords()) != 2 || res.GetCursor() != "5" || res.GetEnd() {
		t.Errorf("the rest: %v", res)
	}
	b.finish(run, "build", at, 0)
	if res := read(&pb.ReadLogRequest{Cursor: "5", WaitSeconds: 20}); len(res.GetRecords()) != 0 || !res.GetEnd() {
		t.Errorf("the end: %v", res)
	}
	if res := read(&pb.ReadLogRequest{Tail: 2, Attempt: 1}); len(res.GetRecords()) != 2 || string(res.GetRecords()[0].GetData()) != "line 3" {
		t.Errorf("tail: %v", res)
	}
	b.do(&state.EndStep{Run: ci.RunID(run), Step: "test", Generation: 1, State: ci.StepNotRun, Reason: ci.ReasonDependencyFailed})
	if res := read(&pb.ReadLogRequest{Step: "test", WaitSeconds: 20}); !res.GetEnd() {
		t.Errorf("a step that never ran: %v", res)
	}
	for name, c := range map[string]struct {
		req  *pb.ReadLogRequest
		kind ci.Kind
		text string
	}{
		"odd cursor": {&pb.ReadLogRequest{Step: "build", Cursor: "x"}, ci.Invalid, "cursor"},
		"limit":      {&pb.ReadLogRequest{Step: "build", Limit: 10_001}, ci.Invalid, "10000"},
		"tail":       {&pb.ReadLogRequest{Step: "build", Tail: -1}, ci.Invalid, "tail"},
		"step":       {&pb.ReadLogRequest{Step: "x"}, ci.NotFound, "build"},
		"attempt":    {&pb.ReadLogRequest{Step: "build", Attempt: 7}, ci.NotFound, "it has had 1"},
	} {
		c.req.Run = run
		_, err := b.runs.ReadLog(t.Context(), c.req)
		wantErr(t, name, err, c.kind, c.text)
	}
}

// Somebody who follows a quiet log does not hold up a stop.
func TestReadLogEndsWithTheServer(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	run := b.submit().GetId()
	b.attempt(run, "build")
	var g errgroup.Group
	g.Go(func() error {
		res, err := b.runs.ReadLog(t.Context(), &pb.ReadLogRequest{Run: run, Step: "build", Cursor: "0", WaitSeconds: 30})
		if err == nil && (res.GetEnd() || res.GetCursor() != "0") {
			t.Errorf("got %v", res)
		}
		return err
	})
	for deadline := time.Now().Add(patience); b.asked.Load() == 0 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	b.stop()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func TestArtifacts(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	run := b.submit().GetId()
	build := b.attempt(run, "build")
	b.finish(run, "build", build, 0, ci.Artifact{Path: "bin/app", Size: 3, SHA256: "s1"}, ci.Artifact{Path: "both"})
	b.finish(run, "test", b.attempt(run, "test"), 0, ci.Artifact{Path: "both"})
	list, err := b.runs.ListArtifacts(t.Context(), &pb.ListArtifactsRequest{Run: run})
	if err != nil || len(list.GetArtifacts()) != 3 {
		t.Fatalf("list: %v, %v", list, err)
	}
	if f := list.GetArtifacts()[0]; f.GetPath() != "bin/app" || f.GetSize() != 3 || f.GetSha256() != "s1" || f.GetStep() != "build" || f.GetAttempt() != 1 {
		t.Errorf("artifact: %v", f)
	}
	get := func(step, path string) (*pb.GetArtifactResponse, error) {
		return b.runs.GetArtifact(t.Context(), &pb.GetArtifactRequest{Run: run, Step: step, Path: path})
	}
	_, err = get("", "bin/app")
	wantErr(t, "not in the bucket", err, ci.NotFound, "not in the bucket")
	b.put(logpath.New("s3://bucket/p/c1", ci.DefaultTenant, ci.RunID(run), "build", 1, build.Fence).Artifact("bin/app"), []byte("app"))
	res, err := get("", "bin/app")
	if err != nil || !strings.Contains(res.GetUrl(), "artifacts/bin/app") || res.GetExpiresAt() == nil {
		t.Errorf("get: %v, %v", res, err)
	}
	_, err = get("", "both")
	wantErr(t, "ambiguous", err, ci.Invalid, "build, test")
	_, err = get("test", "bin/app")
	wantErr(t, "wrong step", err, ci.NotFound, "it has both")
	if l, err := b.runs.ListArtifacts(t.Context(), &pb.ListArtifactsRequest{Run: run, Step: "test"}); err != nil || len(l.GetArtifacts()) != 1 {
		t.Errorf("of a step: %v, %v", l, err)
	}
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	info, err := b.admin.GetInfo(t.Context(), &pb.GetInfoRequest{})
	if err != nil || info.GetCluster() != "c1" || info.GetUser() != "ada" || info.GetRole() != "admin" || info.GetLeader() == "" ||
		info.GetBucket() != "s3://bucket/p/c1" || info.GetS3Endpoint() != "http://s3" || info.GetRegistry() != "localhost:5000" || info.GetNode() != "n1" || info.GetVersion() == "" {
		t.Errorf("info: %v, %v", info, err)
	}
	run := b.submit().GetId()
	b.attempt(run, "build")
	list, err := b.admin.ListAgents(t.Context(), &pb.ListAgentsRequest{})
	if err != nil || len(list.GetAgents()) != 1 {
		t.Fatalf("agents: %v, %v", list, err)
	}
	want := run + "/build#1"
	for _, name := range []string{"a1", "builder"} {
		got, err := b.admin.GetAgent(t.Context(), &pb.GetAgentRequest{Agent: name})
		if err != nil || got.GetAgent().GetRunning() != 1 || strings.Join(got.GetAgent().GetAttempts(), " ") != want || got.GetAgent().GetState() != "ready" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	_, shop := b.as("sam", ci.RoleViewer, "shop")
	if got, err := shop.GetAgent(t.Context(), &pb.GetAgentRequest{Agent: "a1"}); err != nil || got.GetAgent().GetRunning() != 1 || len(got.GetAgent().GetAttempts()) != 0 {
		t.Errorf("seen by another tenant: %v, %v", got, err)
	}
	b.do(&state.RegisterAgent{Agent: ci.Agent{ID: "a2", Name: "builder", BootID: "b", Slots: 1}})
	_, err = b.admin.GetAgent(t.Context(), &pb.GetAgentRequest{Agent: "builder"})
	wantErr(t, "two of one name", err, ci.Invalid, "a1, a2")
	_, err = b.admin.GetAgent(t.Context(), &pb.GetAgentRequest{Agent: "x"})
	wantErr(t, "unknown", err, ci.NotFound, "builder")
}

func TestAuditPages(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for i := range 5 {
		b.submit(func(r *pb.SubmitRunRequest) { r.Repo, r.Sha = "/r", strings.Repeat(string(rune('a'+i)), 40) })
	}
	var got []string
	before := ""
	for range 10 {
		res, err := b.admin.ListAudit(t.Context(), &pb.ListAuditRequest{Limit: 2, Before: before})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range res.GetEntries() {
			got = append(got, e.GetSha()[:1])
		}
		if before = res.GetNext(); before == "" {
			break
		}
	}
	if strings.Join(got, "") != "edcba" {
		t.Errorf("pages: %v", got)
	}
	if res, err := b.admin.ListAudit(t.Context(), &pb.ListAuditRequest{Sha: "CC"}); err != nil || len(res.GetEntries()) != 1 {
		t.Errorf("by sha: %v, %v", res, err)
	}
	_, err := b.admin.ListAudit(t.Context(), &pb.ListAuditRequest{Before: "7"})
	wantErr(t, "odd cursor", err, ci.Invalid, "before")
}
