package agent

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/agent/stepinit"
	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/gossip"
	"github.com/slipway-ci/slipway/shared/id"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/objectstore/s3dev/s3devtest"
	"github.com/slipway-ci/slipway/shared/pki"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func TestMain(m *testing.M) {
	stepinit.MaybeMain()
	needs.NoLeaks(m, s3devtest.Leaks()...)
}

const patience = 60 * time.Second

var gossipKey = []byte("0123456789abcdef")

// bed is a cluster with one coordinator that assigns what a test tells it to.
type bed struct {
	t         *testing.T
	me        ci.AgentID // its own: networks of containers are named after it
	authority *pki.Authority
	root      string
	store     objectstore.Config
	gossip    string
	dir       string

	mu      sync.Mutex
	index   uint64
	work    []wire.Assignment
	changed chan struct{}
	reports []wire.Report
	states  map[string]string // of heartbeats
	tails   chan *pb.TailRequest
	orders  []*pb.TailOrder
}

func newBed(t *testing.T) *bed {
	t.Helper()
	authority, err := pki.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// Not the test's own folder: inits of steps may write until they are gone.
	dir, err := os.MkdirTemp("/tmp", "slipway-agent-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	b := &bed{
		t: t, me: ci.AgentID(id.New()), authority: authority, store: s3devtest.Start(t), dir: dir,
		changed: make(chan struct{}), states: map[string]string{}, tails: make(chan *pb.TailRequest, 100),
	}
	b.root = "s3://" + b.store.Bucket + "/" + authority.Cluster()
	addr := b.serve()
	g, err := gossip.Start(gossip.Config{
		NodeName: "c1", Bind: "127.0.0.1:0", Key: gossipKey, Cluster: authority.Cluster(), Log: slog.New(slog.DiscardHandler),
		Meta: gossip.Meta{Role: string(pki.RoleCoordinator), NodeID: "c1", NodeAddr: addr},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.gossip = g.Addr()
	b.background("gossip", g.Run)
	return b
}

// background runs f until the test ends; the returned function ends it before.
func (b *bed) background(name string, f func(ctx context.Context) error) (stop func()) {
	tasks := lifecycle.NewTasks(context.Background())
	tasks.Go(name, func(ctx context.Context) {
		if err := f(ctx); err != nil {
			b.t.Errorf("%s: %v", name, err)
		}
	})
	stop = sync.OnceFunc(func() {
		if err := tasks.Stop(); err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

func (b *bed) identity(role pki.Role, id string) *pki.Source {
	b.t.Helper()
	bundle, err := b.authority.Issue(role, id, []string{"127.0.0.1"}, time.Hour)
	if err != nil {
		b.t.Fatal(err)
	}
	s, err := pki.NewSource(bundle)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// agent runs an agent until the returned function is called.
func (b *bed) agent(change ...func(c *Config)) (stop func()) {
	b.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(b.t.Output(), nil))
	}
	ready := make(chan Info, 1)
	cfg := Config{
		Dir: b.dir + "/data", RuntimeDir: b.dir + "/run", Identity: b.identity(pki.RoleAgent, string(b.me)), Executors: []string{ci.ExecutorProcess},
		Bucket: b.store, GossipBind: "127.0.0.1:0", GossipKey: gossipKey, Seeds: func() []string { return []string{b.gossip} },
		StepEnv: map[string]string{"FROM_AGENT": "yes"}, Log: log,
		Ready: func(i Info) { ready <- i },
	}
	for _, f := range change {
		f(&cfg)
	}
	stop = b.background("agent", func(ctx context.Context) error { return Run(ctx, cfg) })
	select {
	case i := <-ready:
		if i.ID != b.me || i.Name == "" {
			b.t.Errorf("agent %+v", i)
		}
	case <-time.After(patience):
		b.t.Fatal("the agent does not register")
	}
	return stop
}

// assign gives the agent an attempt of a process step.
func (b *bed) assign(id ci.AttemptID, script string, change ...func(a *wire.Assignment)) {
	a := wire.Assignment{
		Attempt: id, Fence: 7, Number: 1, Generation: 1, Tenant: "pay", Run: "01run", Workflow: "build", CacheSeed: "seed",
		Step:    ci.Step{ID: "unit", Executor: ci.ExecutorProcess, Run: script, S3: true},
		LogPath: logpath.New(b.root, "pay", "01run", string(id), 1, 7).String(),
	}
	for _, f := range change {
		f(&a)
	}
	b.update(func() { b.work = append(b.work, a) })
}

// update changes what the coordinator knows and tells the agent.
func (b *bed) update(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	b.index++
	close(b.changed)
	b.changed = make(chan struct{})
}

// report waits for a committed report.
func (b *bed) report(id ci.AttemptID, phase string) wire.Report {
	b.t.Helper()
	var r wire.Report
	b.eventually("report "+phase+" of "+string(id), func() bool {
		i := slices.IndexFunc(b.reports, func(r wire.Report) bool { return r.Attempt == id && r.Phase == phase })
		if i >= 0 {
			r = b.reports[i]
		}
		return i >= 0
	})
	return r
}

// eventually waits until the condition, called with mu held, is true.
func (b *bed) eventually(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.After(patience)
	for {
		b.mu.Lock()
		done := ok()
		b.mu.Unlock()
		if done {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			b.mu.Lock()
			defer b.mu.Unlock()
			b.t.Fatalf("never happened: %s; reports %+v", what, b.reports)
		}
	}
}

// serve serves AgentService on a node port.
func (b *bed) serve() string {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(slipwayv1connect.NewAgentServiceHandler(coordinator{b: b}, connect.WithInterceptors(wire.ServerErrors(slog.New(slog.DiscardHandler)))))
	server := &http.Server{
		Handler: mux, TLSConfig: b.identity(pki.RoleCoordinator, "c1").ServerConfig(pki.NodeRules()...), ReadHeaderTimeout: patience,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	b.background("coordinator", func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { _ = server.Close() })
		_ = server.ServeTLS(l, "", "")
		return nil
	})
	return l.Addr().String()
}

type coordinator struct {
	slipwayv1connect.UnimplementedAgentServiceHandler
	b *bed
}

func (c coordinator) Register(context.Context, *pb.RegisterRequest) (*pb.RegisterResponse, error) {
	return &pb.RegisterResponse{Incarnation: 1, Store: &pb.StoreInfo{Root: c.b.root}, HeartbeatSeconds: 0.1}, nil
}

func (c coordinator) Assignments(ctx context.Context, _ *pb.AssignmentsRequest, out *connect.ServerStream[pb.AssignmentsResponse]) error {
	for {
		c.b.mu.Lock()
		m := &pb.AssignmentsResponse{Index: &pb.SetIndex{Epoch: 1, Applied: c.b.index}, Full: true, Tails: c.b.orders}
		c.b.orders = nil
		changed := c.b.changed
		for i := range c.b.work {
			if a, err := wire.AssignmentMessage(&c.b.work[i]); err == nil && !c.over(c.b.work[i].Attempt) {
				m.Assignments = append(m.Assignments, a)
			}
		}
		c.b.mu.Unlock()
		if err := out.Send(m); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// over reports whether an attempt has its last report; the caller holds mu.
func (c coordinator) over(id ci.AttemptID) bool {
	return slices.ContainsFunc(c.b.reports, func(r wire.Report) bool { return r.Attempt == id && r.Phase != wire.PhaseExited })
}

func (c coordinator) Heartbeat(_ context.Context, r *pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	for _, p := range r.GetAttempts() {
		c.b.states[p.GetAttempt()] = p.GetState()
	}
	return &pb.HeartbeatResponse{Known: true}, nil
}

func (c coordinator) Accept(context.Context, *pb.AcceptRequest) (*pb.AcceptResponse, error) {
	return &pb.AcceptResponse{Run: true, Want: "run"}, nil
}

func (c coordinator) Report(_ context.Context, m *pb.ReportRequest) (*pb.ReportResponse, error) {
	r, err := wire.ReportFrom(m)
	if err != nil {
		return nil, err
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if !slices.ContainsFunc(c.b.reports, func(o wire.Report) bool { return o.Attempt == r.Attempt && o.Phase == r.Phase }) {
		c.b.reports = append(c.b.reports, *r)
	}
	return &pb.ReportResponse{Accepted: true}, nil
}

func (c coordinator) Tail(_ context.Context, r *pb.TailRequest) (*pb.TailResponse, error) {
	c.b.tails <- r
	return &pb.TailResponse{}, nil
}
