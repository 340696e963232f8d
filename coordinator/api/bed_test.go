package api

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/coordinator/auth"
	"github.com/slipway-ci/slipway/coordinator/engine"
	"github.com/slipway-ci/slipway/coordinator/logs"
	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/id"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/objectstore/objectstoretest"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func TestMain(m *testing.M) { needs.NoLeaks(m) }

const patience = 30 * time.Second

// log applies commands at once, as a cluster of one would.
type log struct {
	mu    sync.Mutex
	store *state.Store
	ops   map[string]int
}

func (l *log) Propose(_ context.Context, c state.Command) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	index := l.store.View().Index() + 1
	data, err := state.EncodeEntry(state.Entry{
		Stamp:    state.Stamp{Wall: time.Now().UTC(), Cluster: ci.ClusterTime(index) * ci.ClusterTime(time.Second)},
		Commands: []state.Command{c},
	})
	if err != nil {
		return 0, err
	}
	l.ops[c.Op.Name()]++
	return index, l.store.ApplyEntry(index, data)[0]
}

// quietAgents never answer, so that every log is read from the bucket.
type quietAgents struct{ asked *atomic.Int64 }

func (q quietAgents) Tail(context.Context, ci.AttemptID, int64, int, time.Duration) ([]logpath.Record, int64, bool, error) {
	q.asked.Add(1)
	return nil, 0, false, ci.Errorf(ci.Unavailable, "no agent")
}

// adapter is what the root does: logs.Reader as the API knows it.
type adapter struct{ *logs.Reader }

func (a adapter) Read(ctx context.Context, q LogQuery) (LogPage, error) {
	p, err := a.Reader.Read(ctx, logs.Log{Path: q.Path, Attempt: q.Attempt, Over: q.Over},
		logs.Query{From: q.From, Tail: q.Tail, Limit: q.Limit, Wait: q.Wait})
	return LogPage(p), err
}

type explainer struct{ why map[string]ci.WaitReason }

func (e explainer) Why(_ ci.RunID, step string) (ci.WaitReason, bool) {
	w, ok := e.why[step]
	return w, ok
}

func (explainer) Pending(r *ci.Run) func(string) []string { return engine.Pending(r) }

// bed is an API with a store, a bucket and a real server.
type bed struct {
	t       *testing.T
	log     *log
	store   *state.Store
	bucket  *objectstoretest.Fake
	api     *API
	url     string
	client  *http.Client
	why     explainer
	leader  bool
	readyIs error
	asked   atomic.Int64 // how often an agent was asked for a log
	stop    func()

	runs  slipwayv1connect.RunServiceClient // of an admin of every tenant
	admin slipwayv1connect.AdminServiceClient
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, store: state.New(), bucket: objectstoretest.Memory(), leader: true, client: &http.Client{Transport: &http.Transport{}}}
	b.why.why = map[string]ci.WaitReason{}
	b.log = &log{store: b.store, ops: map[string]int{}}
	quiet := slog.New(slog.DiscardHandler)
	guard := auth.New(auth.Config{Token: func(h string) *ci.Token { return b.store.View().TokenByHash(h) }, Log: quiet})
	b.api = New(Config{
		Store: b.store, Proposer: b.log,
		Caller: func(ctx context.Context) Caller { return Caller(auth.From(ctx)) },
		Logs:   adapter{logs.New(logs.Config{Bucket: b.bucket, Tailer: quietAgents{&b.asked}, Log: quiet})}, Uploads: b.bucket,
		Explainer: &b.why, Leader: func() (string, bool) { return "127.0.0.1:1", b.leader },
		Now: func() ci.ClusterTime { return b.store.View().Stamp().Cluster }, Ready: func() error { return b.readyIs },
		Root: "s3://bucket/p/c1", Info: Info{Node: "n1", S3Endpoint: "http://s3", Registry: "localhost:5000"},
		Auth: guard, Log: quiet,
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.url = "http://" + ln.Addr().String()
	tasks := lifecycle.NewTasks(context.Background())
	tasks.Go("api", func(ctx context.Context) {
		var g lifecycle.Group
		g.Add("serve", func(ctx context.Context) error { return b.api.Serve(ctx, ln) })
		g.Add("changes", b.api.Run)
		if err := g.Run(ctx); err != nil {
			t.Errorf("api: %v", err)
		}
	})
	var once sync.Once
	b.stop = func() { once.Do(func() { _ = tasks.Stop() }) }
	t.Cleanup(func() {
		b.client.CloseIdleConnections()
		b.stop()
	})
	b.do(&state.InitCluster{ID: "c1", Seed: []byte("seed")})
	b.do(&state.CreateTenant{Tenant: ci.Tenant{ID: ci.DefaultTenant, Grants: []string{ci.GrantDockerRaw}}})
	b.do(&state.CreateTenant{Tenant: ci.Tenant{ID: "shop", MaxQueued: 3}})
	b.runs, b.admin = b.as("ada", ci.RoleAdmin, "")
	return b
}

// as returns clients with a new token.
func (b *bed) as(user string, role ci.Role, tenant ci.TenantID) (slipwayv1connect.RunServiceClient, slipwayv1connect.AdminServiceClient) {
	b.t.Helper()
	secret := "secret-" + user
	b.do(&state.CreateToken{Token: ci.Token{ID: ci.TokenID(id.New()), Hash: auth.Hash(secret), User: user, Role: role, Tenant: tenant}})
	set := connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			req.Header().Set("Authorization", "Bearer "+secret)
			return next(ctx, req)
		}
	})
	opts := connect.WithInterceptors(wire.ClientErrors(), set)
	return slipwayv1connect.NewRunServiceClient(b.client, b.url, opts), slipwayv1connect.NewAdminServiceClient(b.client, b.url, opts)
}

func (b *bed) do(op state.Op) {
	b.t.Helper()
	if _, err := b.log.Propose(b.t.Context(), state.Command{Actor: ci.System, Op: op}); err != nil {
		b.t.Fatalf("%s: %v", op.Name(), err)
	}
}

const twoSteps = `
version: 1
name: main
description: two steps
params:
  suite: { type: choice, options: [fast, full], default: fast }
defaults: { executor: process, timeout: 10m }
steps:
  - id: build
    run: make
  - id: test
    run: make test
`

// submit starts a run of twoSteps.
func (b *bed) submit(edit ...func(*pb.SubmitRunRequest)) *pb.Run {
	b.t.Helper()
	req := &pb.SubmitRunRequest{WorkflowYaml: twoSteps, File: "main.yaml"}
	for _, e := range edit {
		e(req)
	}
	res, err := b.runs.SubmitRun(b.t.Context(), req)
	if err != nil {
		b.t.Fatal(err)
	}
	return res.GetRun()
}

func (b *bed) get(run string) *pb.Run {
	b.t.Helper()
	res, err := b.runs.GetRun(b.t.Context(), &pb.GetRunRequest{Run: run})
	if err != nil {
		b.t.Fatal(err)
	}
	return res.GetRun()
}

// attempt gives a step an attempt that an agent has accepted.
func (b *bed) attempt(run, step string) *ci.Attempt {
	b.t.Helper()
	if b.store.View().Agent("a1") == nil {
		b.do(&state.RegisterAgent{Agent: ci.Agent{ID: "a1", Name: "builder", BootID: "b", Slots: 9}})
	}
	at := ci.AttemptID(id.New())
	b.do(&state.QueueAttempt{Run: ci.RunID(run), Step: step, Attempt: at})
	b.do(&state.AssignAttempt{Run: ci.RunID(run), Step: step, Attempt: at, Agent: "a1"})
	got := b.store.View().Run(ci.RunID(run)).Step(step).Attempt(at)
	b.do(&state.AcceptAttempt{Run: ci.RunID(run), Step: step, Attempt: at, Fence: got.Fence, Agent: "a1"})
	return got
}

// finish ends an attempt and its step.
func (b *bed) finish(run, step string, at *ci.Attempt, exit int, artifacts ...ci.Artifact) {
	b.t.Helper()
	outcome, end, why := ci.AttemptSucceeded, ci.StepPassed, ci.ReasonNone
	if exit != 0 {
		outcome, end, why = ci.AttemptFailed, ci.StepFailed, ci.ReasonExitCode
	}
	b.do(&state.ReportAttempt{
		Run: ci.RunID(run), Step: step, Attempt: at.ID, Fence: at.Fence, Agent: "a1", Phase: state.PhaseFinal,
		Outcome: outcome, Reason: why, Exited: true, ExitCode: exit, Artifacts: artifacts,
	})
	r := b.store.View().Run(ci.RunID(run))
	b.do(&state.EndStep{Run: r.ID, Step: step, Generation: r.Step(step).Generation, State: end, Reason: why, Result: at.ID})
}

// put writes an object.
func (b *bed) put(key string, data []byte) {
	b.t.Helper()
	if _, err := b.bucket.Put(b.t.Context(), key, bytes.NewReader(data), int64(len(data)), objectstore.PutOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// post is what curl does.
func (b *bed) post(path, token, body string, header ...string) (int, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res.StatusCode, string(data)
}

// wantErr checks kind and text of an error.
func wantErr(t *testing.T, what string, err error, kind ci.Kind, text string) {
	t.Helper()
	if err == nil || ci.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got %v, want %s with %q", what, err, kind, text)
	}
}

var someSHA = strings.Repeat("ab", 20)

var someSum = hex.EncodeToString(bytes.Repeat([]byte{0xcd}, 32))
