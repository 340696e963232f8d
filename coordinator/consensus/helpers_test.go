package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/pki"
)

const deadline = 60 * time.Second

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
	}
	needs.NoLeaks(m)
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// await polls for what has no channel to wait on.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := soon(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s", what, deadline)
		}
	}
}

// member is a node of a test, on disk, that can be killed and started again.
type member struct {
	cfg   Config
	node  *Node
	mux   *Mux
	tasks *lifecycle.Tasks // of the mux
	inmem *raft.InmemTransport
	// grouped members are killed at the end of the test, others are closed.
	grouped bool
}

func authority(t testing.TB) *pki.Authority {
	t.Helper()
	a, err := pki.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// start opens the node over the real transport, on any free port.
func (m *member) start(a *pki.Authority) error {
	var err error
	if m.cfg.ID, err = NodeID(m.cfg.Dir); err != nil {
		return err
	}
	b, err := a.Issue(pki.RoleCoordinator, m.cfg.ID, []string{"127.0.0.1"}, time.Hour)
	if err != nil {
		return err
	}
	if m.cfg.TLS, err = pki.NewSource(b); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	m.mux = NewMux(ln, m.cfg.TLS, m.cfg.Log)
	book.set(m.cfg.ID, m.mux.Addr().String())
	m.cfg.ClusterID, m.cfg.Listener, m.cfg.Store = a.Cluster(), m.mux.Raft(), state.New()
	m.tasks = lifecycle.NewTasks(context.Background())
	m.tasks.Go("mux", func(ctx context.Context) { _ = m.mux.Run(ctx) })
	m.node, err = Open(m.cfg)
	return err
}

// kill stops the node as a crash would, as far as that goes within a process:
// it hands nothing over and tells nobody.
func (m *member) kill() error {
	var err error
	m.node.closeOnce.Do(func() {
		m.node.cancel()
		err = errors.Join(m.tasks.Stop(), m.node.raft.Shutdown().Error(), m.node.tasks.Stop(), m.node.closeNet(), m.node.disk.close())
	})
	return err
}

func (m *member) stop(t *testing.T) {
	t.Helper()
	if err := errors.Join(m.node.Close(), m.tasks.Stop()); err != nil {
		t.Error(err)
	}
}

func newMember(t *testing.T) *member {
	return &member{cfg: Config{Dir: t.TempDir(), Log: logger(t), Bootstrap: true}}
}

func logger(t *testing.T) *slog.Logger {
	if os.Getenv("SLIPWAY_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("test", t.Name())
}

// single starts a single voter that leads.
func single(t *testing.T, alter func(*Config)) *member {
	t.Helper()
	m := newMember(t)
	if alter != nil {
		alter(&m.cfg)
	}
	m.mustStart(t, authority(t))
	m.mustLead(t)
	return m
}

func (m *member) mustStart(t *testing.T, a *pki.Authority) {
	t.Helper()
	if err := m.start(a); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !m.grouped {
			m.stop(t)
			return
		}
		// Handing leadership to a member that is being stopped too only takes time.
		if err := m.kill(); err != nil {
			t.Error(err)
		}
	})
}

func (m *member) mustLead(t *testing.T) {
	t.Helper()
	if err := m.node.WaitLeader(soon(t)); err != nil {
		t.Fatal(err)
	}
}

// tenant is a command whose effect can be seen; pad makes it larger.
func tenant(name string, pad int) state.Command {
	return state.Command{Key: name, Actor: ci.System, Op: &state.CreateTenant{
		Tenant: ci.Tenant{ID: ci.TenantID(name), Grants: []string{strings.Repeat("g", pad)}},
	}}
}

func (m *member) has(name string) bool {
	return m.node.cfg.Store.View().Tenant(ci.TenantID(name)) != nil
}

func (m *member) propose(t *testing.T, name string) uint64 {
	t.Helper()
	index, err := m.node.Propose(soon(t), tenant(name, 0))
	if err != nil {
		t.Fatalf("propose %s: %v", name, err)
	}
	return index
}

// addresses stands for gossip: a restarted member has another port.
type addresses struct{ byID sync.Map }

var book addresses

func (b *addresses) set(id, addr string) { b.byID.Store(id, addr) }

func (b *addresses) resolve(id string) (string, bool) {
	addr, ok := b.byID.Load(id)
	if !ok {
		return "", false
	}
	return addr.(string), true
}

// group is several members of one cluster.
type group []*member

// three makes a cluster of three over the real transport, or, where links are to
// be cut, over raft's in-memory one.
func three(t *testing.T, inmem bool) (group, *pki.Authority) {
	t.Helper()
	a := authority(t)
	var g group
	for i := range 3 {
		m := newMember(t)
		m.grouped, m.cfg.Bootstrap = true, i == 0
		m.cfg.Resolve = book.resolve
		m.cfg.Profile = Region().Times(2)
		if inmem {
			_, m.inmem = raft.NewInmemTransportWithTimeout("", 500*time.Millisecond)
			m.cfg.transport = m.inmem
		}
		m.mustStart(t, a)
		g = append(g, m)
	}
	if inmem {
		g.link(true)
	}
	g[0].mustLead(t)
	for _, m := range g[1:] {
		if err := g[0].node.Join(soon(t), m.cfg.ID, string(m.node.net.LocalAddr())); err != nil {
			t.Fatal(err)
		}
	}
	g.settle(t)
	return g, a
}

// link connects every pair, or cuts m from all others.
func (g group) link(up bool, cut ...*member) {
	for _, x := range g {
		for _, y := range g {
			switch {
			case x == y:
			case up:
				x.inmem.Connect(y.inmem.LocalAddr(), y.inmem)
			case x == cut[0] || y == cut[0]:
				x.inmem.Disconnect(y.inmem.LocalAddr())
			}
		}
	}
}

// leader waits for one of the members to lead and returns it.
func (g group) leader(t *testing.T) *member {
	t.Helper()
	var found *member
	await(t, "a leader", func() bool {
		for _, m := range g {
			if m.node.IsLeader() {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

func (g group) without(gone *member) group {
	var rest group
	for _, m := range g {
		if m != gone {
			rest = append(rest, m)
		}
	}
	return rest
}

// settle waits until all members have applied the same.
func (g group) settle(t *testing.T) {
	t.Helper()
	await(t, "all members at one index", func() bool {
		want := g.leader(t).node.Index()
		for _, m := range g {
			if m.node.Index() != want {
				return false
			}
		}
		return want > 0
	})
}

// sameLog fails unless all members hold the same commands at the same indexes.
func (g group) sameLog(t *testing.T) {
	t.Helper()
	last := g[0].node.Index()
	for i := uint64(1); i <= last; i++ {
		var want raft.Log
		if err := g[0].node.disk.wal.GetLog(i, &want); err != nil {
			t.Fatal(err)
		}
		for _, m := range g[1:] {
			var got raft.Log
			if err := m.node.disk.wal.GetLog(i, &got); err != nil {
				t.Fatal(err)
			}
			if got.Type != want.Type || got.Term != want.Term || !bytes.Equal(got.Data, want.Data) {
				t.Fatalf("entry %d differs: %s", i, fmt.Sprint(got, want))
			}
		}
	}
	for _, m := range g[1:] {
		if m.node.cfg.Store.Hash() != g[0].node.cfg.Store.Hash() {
			t.Errorf("the state of %s differs", m.cfg.ID)
		}
	}
}
