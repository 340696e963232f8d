package coordinator

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/id"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/objectstore/s3dev/s3devtest"
	"github.com/slipway-ci/slipway/shared/pki"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func TestMain(m *testing.M) { needs.NoLeaks(m, s3devtest.Leaks()...) }

const patience = 60 * time.Second

// fleet is a coordinator with a bucket and an agent.
type fleet struct {
	t     *testing.T
	cfg   Config
	agent *fakeAgent
	stop  func()

	mu   sync.Mutex
	info Info
}

func newFleet(t *testing.T, store objectstore.Config) *fleet {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.OpenAuthority(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, cfg: Config{
		Dir: filepath.Join(dir, "coordinator"), Listen: "127.0.0.1:0", NodeListen: "127.0.0.1:0", Bootstrap: true,
		Authority: ca, Bucket: store, Prefix: "ci",
		GossipBind: "127.0.0.1:0", GossipKey: []byte("0123456789abcdef0123456789abcdef"),
		InitialGrants: []string{ci.GrantDockerRaw},
		Heartbeat:     300 * time.Millisecond, SuspectAfter: 30 * time.Second,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}}
	f.start()
	bundle, err := ca.Issue(pki.RoleAgent, id.New(), nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	source, err := pki.NewSource(bundle)
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := objectstore.Open(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	f.agent = &fakeAgent{
		t: t, tls: source, addr: func() string { return f.known().NodeAddr }, bucket: bucket,
		tasks: lifecycle.NewTasks(context.Background()), dir: t.TempDir(), jobs: map[ci.AttemptID]*job{},
	}
	f.agent.tasks.Go("agent", f.agent.run)
	t.Cleanup(func() {
		_ = f.agent.tasks.Stop()
		bucket.Close()
		f.stop()
	})
	return f
}

func (f *fleet) known() Info {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.info
}

// start runs the coordinator until f.stop, and waits until it is ready.
func (f *fleet) start() {
	f.t.Helper()
	tasks := lifecycle.NewTasks(context.Background())
	ready, failed := make(chan Info, 1), make(chan error, 1)
	cfg := f.cfg
	cfg.Ready = func(i Info) { ready <- i }
	tasks.Go("coordinator", func(ctx context.Context) { failed <- Run(ctx, cfg) })
	select {
	case i := <-ready:
		f.mu.Lock()
		f.info = i
		f.mu.Unlock()
	case err := <-failed:
		f.t.Fatalf("the coordinator ended: %v", err)
	case <-time.After(patience):
		f.t.Fatal("the coordinator did not get ready")
	}
	var once sync.Once
	f.stop = func() {
		once.Do(func() {
			_ = tasks.Stop()
			if err := <-failed; err != nil {
				f.t.Errorf("the coordinator ended badly: %v", err)
			}
		})
	}
}

func (f *fleet) token() string {
	f.t.Helper()
	data, err := os.ReadFile(f.known().TokenFile)
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func (f *fleet) clients() (slipwayv1connect.RunServiceClient, slipwayv1connect.AdminServiceClient) {
	f.t.Helper()
	token := f.token()
	set := connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			req.Header().Set("Authorization", "Bearer "+token)
			return next(ctx, req)
		}
	})
	tr := &http.Transport{}
	f.t.Cleanup(tr.CloseIdleConnections)
	client, url, opts := &http.Client{Transport: tr}, "http://"+f.known().Listen, connect.WithInterceptors(wire.ClientErrors(), set)
	return slipwayv1connect.NewRunServiceClient(client, url, opts), slipwayv1connect.NewAdminServiceClient(client, url, opts)
}

// final waits until nothing of a run changes any more.
func final(t *testing.T, runs slipwayv1connect.RunServiceClient, run string) *pb.Run {
	t.Helper()
	index := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		w, err := runs.WatchRun(t.Context(), &pb.WatchRunRequest{Run: run, Index: index, WaitSeconds: 10})
		if err != nil {
			t.Fatal(err)
		}
		if w.GetRun().GetFinal() {
			return w.GetRun()
		}
		index = w.GetIndex()
	}
	t.Fatalf("run %s did not end", run)
	return nil
}

const walkWorkflow = `
name: walk
params: { who: { type: string, default: ada } }
defaults: { executor: process, timeout: 5m }
steps:
  - id: build
    run: |
      mkdir out
      echo "hello $PARAM_WHO"
      echo data > out/app
    artifacts: [{ paths: [out/app] }]
  - id: test
    run: echo tested; exit 3
    retry: [{ on: [exit_code], limit: 1, backoff: { initial: 1s } }]
    soft_fail: { exit_codes: [3] }
`

// From a workflow file to the bucket and back, over a restart.
func TestWalk(t *testing.T) {
	t.Parallel()
	f := newFleet(t, s3devtest.Start(t))
	runs, admin := f.clients()
	res, err := runs.SubmitRun(t.Context(), &pb.SubmitRunRequest{WorkflowYaml: walkWorkflow, IdempotencyKey: "w1"})
	if err != nil {
		t.Fatal(err)
	}
	id := res.GetRun().GetId()
	// Follow from the beginning: live at first, from the bucket at the end.
	var text []string
	for cursor, end := "", false; !end; {
		page, err := runs.ReadLog(t.Context(), &pb.ReadLogRequest{Run: id, Step: "build", Cursor: cursor, WaitSeconds: 20})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.GetRecords() {
			text = append(text, string(r.GetData()))
		}
		cursor, end = page.GetCursor(), page.GetEnd()
	}
	if strings.Join(text, "|") != "hello ada" {
		t.Errorf("log: %q", text)
	}
	run := final(t, runs, id)
	build, test := run.GetSteps()[0], run.GetSteps()[1]
	if run.GetState() != "passed" || build.GetState() != "passed" || test.GetState() != "soft_failed" || len(test.GetAttempts()) != 2 || test.GetAttempts()[1].GetExitCode() != 3 {
		t.Errorf("run: %v", run)
	}
	at := build.GetAttempts()[0]
	if at.GetAgent() != "builder" || at.GetLog().GetLines() != 1 || !strings.HasPrefix(at.GetLogPath(), "s3://"+f.cfg.Bucket.Bucket+"/ci/"+f.known().Cluster+"/t/default/r/"+id+"/build/1-") {
		t.Errorf("attempt: %v", at)
	}
	checkArtifact(t, runs, id)
	if info, err := admin.GetInfo(t.Context(), &pb.GetInfoRequest{}); err != nil || info.GetUser() != "admin" || info.GetLeader() == "" || info.GetS3Endpoint() != f.cfg.Bucket.Endpoint {
		t.Errorf("info: %v, %v", info, err)
	}

	token := f.token()
	f.stop()
	f.start()
	runs, admin = f.clients()
	if f.token() != token {
		t.Error("a restart made another token")
	}
	again, err := runs.SubmitRun(t.Context(), &pb.SubmitRunRequest{WorkflowYaml: walkWorkflow, IdempotencyKey: "w1"})
	if err != nil || !again.GetExisted() || again.GetRun().GetId() != id || again.GetRun().GetState() != "passed" {
		t.Errorf("after a restart: %v, %v", again, err)
	}
	res, err = runs.SubmitRun(t.Context(), &pb.SubmitRunRequest{WorkflowYaml: walkWorkflow, Params: map[string]string{"who": "bob"}, Only: []string{"build"}})
	if err != nil {
		t.Fatal(err)
	}
	if run := final(t, runs, res.GetRun().GetId()); run.GetState() != "passed" || run.GetSteps()[1].GetState() != "skipped" {
		t.Errorf("second run: %v", run)
	}
	if l, err := admin.ListAudit(t.Context(), &pb.ListAuditRequest{}); err != nil || len(l.GetEntries()) != 2 {
		t.Errorf("audit: %v, %v", l, err)
	}
}

func checkArtifact(t *testing.T, runs slipwayv1connect.RunServiceClient, id string) {
	t.Helper()
	got, err := runs.GetArtifact(t.Context(), &pb.GetArtifactRequest{Run: id, Path: "out/app"})
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Get(got.GetUrl())
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer func() { _ = res.Body.Close() }()
	data := make([]byte, 10)
	if n, _ := res.Body.Read(data); string(data[:n]) != "data\n" {
		t.Errorf("artifact: %d %q", res.StatusCode, data)
	}
}

func TestConfigRefusals(t *testing.T) {
	t.Parallel()
	ca, err := pki.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(*Config)
		text string
	}{
		"no folder":      {func(c *Config) { c.Dir = "" }, "folder of its own"},
		"no certificate": {func(c *Config) { c.Authority = nil }, "without a certificate"},
		"no gossip key":  {func(c *Config) { c.GossipKey = nil }, "gossip key"},
		"no log":         {func(c *Config) { c.Log = nil }, "without a log"},
		"no bucket":      {func(c *Config) { c.Bucket.Bucket = "" }, "bucket"},
		"open to all":    {func(c *Config) { c.Listen = "0.0.0.0:0" }, "loopback"},
		"odd address":    {func(c *Config) { c.Listen = "nowhere" }, "cannot listen on nowhere"},
		"odd node port":  {func(c *Config) { c.NodeListen = "nowhere" }, "for nodes"},
		"odd gossip":     {func(c *Config) { c.GossipBind = "nowhere" }, "gossip"},
		"folder taken": {func(c *Config) {
			c.Dir = filepath.Join(c.Dir, "file")
			if err := os.WriteFile(c.Dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "folder"},
	} {
		cfg := Config{
			Dir: t.TempDir(), Listen: "127.0.0.1:0", NodeListen: "127.0.0.1:0", GossipBind: "127.0.0.1:0",
			GossipKey: make([]byte, 32), Authority: ca, Log: slog.New(slog.DiscardHandler),
			Bucket: objectstore.Config{Endpoint: "http://127.0.0.1:1", Bucket: "b", AccessKey: "a", SecretKey: "s"},
		}
		c.edit(&cfg)
		if err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestTokenFileIsMendedNotTrusted(t *testing.T) {
	t.Parallel()
	c := &coordinator{cfg: Config{Dir: t.TempDir()}}
	first, err := c.firstSecret()
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(c.cfg.tokenFile())
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", st, err)
	}
	if second, err := c.firstSecret(); err != nil || second != first {
		t.Errorf("second: %q, %v", second, err)
	}
	if err := os.WriteFile(c.cfg.tokenFile(), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.firstSecret(); ci.KindOf(err) != ci.Invalid {
		t.Errorf("empty file: %v", err)
	}
}
