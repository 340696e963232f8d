package session

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/pki"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func TestMain(m *testing.M) { needs.NoLeaks(m) }

const patience = 30 * time.Second

// bed is a cluster's authority, and the addresses that gossip would give.
type bed struct {
	t         *testing.T
	authority *pki.Authority
	addrs     atomic.Value // []string
	ended     chan error
}

func newBed(t *testing.T) *bed {
	t.Helper()
	a, err := pki.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, authority: a, ended: make(chan error, 1)}
	b.addrs.Store([]string(nil))
	return b
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

// session runs a session that knows the given coordinators.
func (b *bed) session(w *work, known ...*coordinator) *Session {
	b.t.Helper()
	var addrs []string
	for _, c := range known {
		addrs = append(addrs, c.addr)
	}
	b.addrs.Store(addrs)
	me := b.identity(pki.RoleAgent, "agent1")
	found := make(chan struct{})
	s := New(Config{
		Agent: ci.Agent{Name: "host-1", BootID: "boot", Slots: 4}, Cluster: b.authority.Cluster(),
		Coordinators: func() []string { return b.addrs.Load().([]string) },
		Found:        func() <-chan struct{} { return found },
		TLS:          func() *tls.Config { return me.ClientConfig(pki.RoleCoordinator, "", pki.ProtoHTTP) },
		Work:         w, News: w.news, Tail: tailer{}, DiskFree: func() float64 { return 0.25 },
		Log: slog.New(slog.DiscardHandler),
	})
	tasks := lifecycle.NewTasks(context.Background())
	tasks.Go("session", func(ctx context.Context) { b.ended <- s.Run(ctx) })
	b.t.Cleanup(func() {
		if err := tasks.Stop(); err != nil {
			b.t.Error(err)
		}
	})
	return s
}

func (b *bed) eventually(what string, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("never happened: %s", what)
		}
	}
}

type set struct {
	at       Index
	full     bool
	assigned []ci.AttemptID
	removed  []ci.AttemptID
}

type work struct {
	news     chan struct{}
	seen     Index
	progress []wire.Progress

	mu  sync.Mutex
	got []set
}

func (w *work) Set(at Index, full bool, assigned []wire.Assignment, removed []ci.AttemptID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := set{at: at, full: full, removed: removed}
	for _, a := range assigned {
		s.assigned = append(s.assigned, a.Attempt)
	}
	w.got = append(w.got, s)
}

func (w *work) sets() []set {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]set(nil), w.got...)
}

func (w *work) Seen() Index               { return w.seen }
func (w *work) Progress() []wire.Progress { return w.progress }

type tailer struct{}

func (tailer) Tail(_ context.Context, attempt ci.AttemptID, from int64, limit int, wait time.Duration) ([]logpath.Record, int64, bool, error) {
	if attempt == "gone" {
		return nil, 0, false, ci.Errorf(ci.NotFound, "no log of attempt %s", attempt)
	}
	text := fmt.Sprintf("%s from %d at most %d within %s\xff", attempt, from, limit, wait)
	return []logpath.Record{{Time: time.Unix(1, 2), Stream: logpath.Stderr, Data: []byte(text)}}, from + 1, true, nil
}

// coordinator is one that remembers what it was asked.
type coordinator struct {
	slipwayv1connect.UnimplementedAgentServiceHandler
	addr      string
	stop      func()
	heartbeat time.Duration
	thief     bool // another agent registers after each registration
	registers chan *pb.RegisterRequest
	opens     chan *pb.AssignmentsRequest
	send      chan *pb.AssignmentsResponse
	beats     chan *pb.HeartbeatRequest
	tails     chan *pb.TailRequest

	mu          sync.Mutex
	incarnation uint64
}

// coordinator serves on a node port of its own.
func (b *bed) coordinator() *coordinator {
	b.t.Helper()
	c := &coordinator{
		heartbeat: 50 * time.Millisecond, registers: make(chan *pb.RegisterRequest, 100), opens: make(chan *pb.AssignmentsRequest, 100),
		send: make(chan *pb.AssignmentsResponse, 100), beats: make(chan *pb.HeartbeatRequest, 10_000), tails: make(chan *pb.TailRequest, 100),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	c.addr = l.Addr().String()
	mux := http.NewServeMux()
	mux.Handle(slipwayv1connect.NewAgentServiceHandler(c, connect.WithInterceptors(wire.ServerErrors(slog.New(slog.DiscardHandler)))))
	server := &http.Server{
		Handler: mux, TLSConfig: b.identity(pki.RoleCoordinator, "c1").ServerConfig(pki.NodeRules()...),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), ReadHeaderTimeout: patience,
	}
	tasks := lifecycle.NewTasks(context.Background())
	tasks.Go("serve", func(context.Context) { _ = server.ServeTLS(l, "", "") })
	var once sync.Once
	c.stop = func() {
		once.Do(func() {
			_ = server.Close()
			_ = tasks.Wait()
		})
	}
	b.t.Cleanup(c.stop)
	return c
}

func (c *coordinator) current(n uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.incarnation > n {
		return ci.FieldErrorf(ci.Conflict, "incarnation", "session %d is over", n)
	}
	return nil
}

func (c *coordinator) Register(_ context.Context, r *pb.RegisterRequest) (*pb.RegisterResponse, error) {
	c.registers <- r
	c.mu.Lock()
	defer c.mu.Unlock()
	c.incarnation++
	n := c.incarnation
	if c.thief {
		c.incarnation++
	}
	return &pb.RegisterResponse{Incarnation: n, Store: &pb.StoreInfo{Root: "s3://b/c"}, HeartbeatSeconds: c.heartbeat.Seconds()}, nil
}

func (c *coordinator) Assignments(ctx context.Context, r *pb.AssignmentsRequest, out *connect.ServerStream[pb.AssignmentsResponse]) error {
	if err := c.current(r.GetIncarnation()); err != nil {
		return err
	}
	c.opens <- r
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-c.send:
			if err := out.Send(m); err != nil {
				return err
			}
		}
	}
}

func (c *coordinator) Heartbeat(_ context.Context, r *pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
	select {
	case c.beats <- r:
	default: // the test has seen enough
	}
	return &pb.HeartbeatResponse{Known: c.current(r.GetIncarnation()) == nil}, nil
}

func (c *coordinator) Accept(_ context.Context, r *pb.AcceptRequest) (*pb.AcceptResponse, error) {
	return &pb.AcceptResponse{Run: true, Want: "run"}, c.current(r.GetIncarnation())
}

func (c *coordinator) Report(_ context.Context, r *pb.ReportRequest) (*pb.ReportResponse, error) {
	return &pb.ReportResponse{Accepted: true}, c.current(r.GetIncarnation())
}

func (c *coordinator) Tail(_ context.Context, r *pb.TailRequest) (*pb.TailResponse, error) {
	c.tails <- r
	return &pb.TailResponse{}, nil
}
