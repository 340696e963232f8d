package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/id"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/pki"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func TestMain(m *testing.M) { needs.NoLeaks(m) }

const patience = 30 * time.Second

// log applies commands at once, as a cluster of one would.
type log struct {
	mu     sync.Mutex
	store  *state.Store
	ops    map[string]int
	broken error
}

func (l *log) Propose(_ context.Context, c state.Command) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return 0, l.broken
	}
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

func (l *log) breakWith(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = err
}

func (l *log) count(op string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ops[op]
}

// bed is a coordinator's dispatch with a store and a real HTTP/2 server.
type bed struct {
	t        *testing.T
	log      *log
	store    *state.Store
	service  *Service
	verifies atomic.Int64
	noLeader atomic.Bool
	starting atomic.Bool
	server   *httptest.Server
	stop     func()
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, store: state.New()}
	b.log = &log{store: b.store, ops: map[string]int{}}
	b.service = New(Config{
		Store: b.store, Proposer: b.log, Root: "s3://bucket/p/c1",
		Verify: func(context.Context) error {
			b.verifies.Add(1)
			if b.noLeader.Load() {
				return ci.Errorf(ci.Unavailable, "no leader")
			}
			return nil
		},
		Ready: func() error {
			if b.starting.Load() {
				return ci.Errorf(ci.Unavailable, "starting")
			}
			return nil
		},
		// Who calls stands in a header here, in the certificate outside.
		Peer: func(r *http.Request) (pki.Identity, error) {
			who := pki.Identity{Cluster: "c1", Role: pki.RoleAgent, NodeID: r.Header.Get("Test-Node")}
			switch who.NodeID {
			case "":
				return who, ci.Errorf(ci.Unauthenticated, "no certificate")
			case "coordinator":
				who.Role = pki.RoleCoordinator
			case "stranger":
				who.Cluster = "c2"
			}
			return who, nil
		},
		Heartbeat: 300 * time.Millisecond, SuspectAfter: 400 * time.Millisecond, Checkpoint: 200 * time.Millisecond,
		Log: slog.New(slog.DiscardHandler),
	})
	mux := http.NewServeMux()
	mux.Handle(b.service.Handler())
	b.server = httptest.NewUnstartedServer(mux)
	b.server.EnableHTTP2 = true
	b.server.StartTLS()
	tasks := lifecycle.NewTasks(context.Background())
	tasks.Go("dispatch", func(ctx context.Context) {
		if err := b.service.Run(ctx); err != nil {
			t.Errorf("dispatch: %v", err)
		}
	})
	var once sync.Once
	b.stop = func() {
		once.Do(func() {
			if err := tasks.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		b.stop()
		b.server.Client().CloseIdleConnections()
		b.server.Close()
	})
	b.do(&state.InitCluster{ID: "c1", Seed: []byte("seed")})
	b.do(&state.CreateTenant{Tenant: ci.Tenant{ID: "shop"}})
	return b
}

func (b *bed) do(op state.Op) {
	b.t.Helper()
	if _, err := b.log.Propose(b.t.Context(), state.Command{Actor: ci.System, Op: op}); err != nil {
		b.t.Fatalf("%s: %v", op.Name(), err)
	}
}

// run stores a run of one step, build, which has one queued attempt.
func (b *bed) run(steps ...ci.Step) (ci.RunID, ci.AttemptID) {
	b.t.Helper()
	if len(steps) == 0 {
		steps = []ci.Step{{ID: "build", Executor: ci.ExecutorProcess, Run: "make", Env: map[string]string{"WHO": "${{ params.who }}"}}}
	}
	w := &ci.Workflow{
		Version: 1, Name: "main", Dispatch: true, Steps: steps,
		Params: []ci.Param{{Name: "who", Type: ci.ParamString}},
	}
	hash, parts, err := state.PackWorkflow(w)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := range parts {
		b.do(&parts[i])
	}
	run, attempt := ci.RunID(id.New()), ci.AttemptID(id.New())
	b.do(&state.CreateRun{Run: ci.Run{
		ID: run, Tenant: "shop", WorkflowHash: hash, Params: map[string]string{"who": "ada"},
		Source: ci.Source{Repo: "/src", SHA: "0123"},
	}})
	b.do(&state.QueueAttempt{Run: run, Step: "build", Attempt: attempt, Resources: ci.Resources{MilliCPU: 500}})
	return run, attempt
}

func (b *bed) assign(run ci.RunID, attempt ci.AttemptID, agent string) {
	b.t.Helper()
	b.do(&state.AssignAttempt{Run: run, Step: "build", Attempt: attempt, Agent: ci.AgentID(agent)})
}

func (b *bed) attempt(run ci.RunID, id ci.AttemptID) *ci.Attempt {
	b.t.Helper()
	return b.store.View().Run(run).Step("build").Attempt(id)
}

// eventually waits until the condition holds.
func (b *bed) eventually(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			b.t.Fatalf("never happened: %s", what)
		}
		select {
		case <-b.t.Context().Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// agent is the other side.
type agent struct {
	bed         *bed
	id          string
	client      slipwayv1connect.AgentServiceClient
	incarnation uint64
}

func (b *bed) agent(name string) *agent {
	set := connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
			req.Header().Set("Test-Node", name)
			return next(ctx, req)
		}
	})
	return &agent{bed: b, id: name, client: slipwayv1connect.NewAgentServiceClient(
		b.server.Client(), b.server.URL, connect.WithInterceptors(wire.ClientErrors(), set))}
}

// registered opens a session.
func (b *bed) registered(name string) *agent {
	b.t.Helper()
	a := b.agent(name)
	res, err := a.client.Register(b.t.Context(), a.introduction())
	if err != nil {
		b.t.Fatal(err)
	}
	a.incarnation = res.GetIncarnation()
	return a
}

func (a *agent) introduction() *pb.RegisterRequest {
	return wire.RegisterRequest("c1", &ci.Agent{
		Name: "host-" + a.id, BootID: "b1", Slots: 4, Capacity: ci.Resources{MilliCPU: 4000, Memory: 8 << 30},
		Executors: []string{ci.ExecutorProcess},
	})
}

// stream is an open stream whose messages arrive on a channel.
type listening struct {
	got chan *pb.AssignmentsResponse
	end chan error
}

func (a *agent) listen(seen *pb.SetIndex) *listening {
	a.bed.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ctx, info := connect.NewClientContext(ctx)
	info.RequestHeader().Set("Test-Node", a.id)
	l := &listening{got: make(chan *pb.AssignmentsResponse, 100), end: make(chan error, 1)}
	tasks := lifecycle.NewTasks(context.Background())
	tasks.Go("listen", func(context.Context) {
		// This call returns only with the first message or an error.
		stream, err := a.client.Assignments(ctx, &pb.AssignmentsRequest{Incarnation: a.incarnation, Seen: seen})
		if err != nil {
			l.end <- err
			return
		}
		for stream.Receive() {
			l.got <- stream.Msg()
		}
		l.end <- stream.Err()
		_ = stream.Close()
	})
	a.bed.t.Cleanup(func() {
		cancel()
		_ = tasks.Stop()
	})
	return l
}

func (l *listening) next(t *testing.T) *pb.AssignmentsResponse {
	t.Helper()
	select {
	case m := <-l.got:
		return m
	case err := <-l.end:
		t.Fatalf("the stream ended: %v", err)
	case <-time.After(patience):
		t.Fatal("no message")
	}
	return nil
}

func (l *listening) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-l.end:
		return err
	case <-time.After(patience):
		t.Fatal("the stream did not end")
	}
	return nil
}

func (l *listening) quiet(t *testing.T) {
	t.Helper()
	select {
	case m := <-l.got:
		t.Fatalf("unexpected message: %v", m)
	case err := <-l.end:
		t.Fatalf("the stream ended: %v", err)
	case <-time.After(150 * time.Millisecond):
	}
}

func kindAndField(err error) string {
	var e *ci.Error
	if !errors.As(err, &e) {
		return fmt.Sprint(err)
	}
	return e.Kind.String() + " " + e.Field
}
