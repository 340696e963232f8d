package gossip

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/memberlist"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/needs"
)

func TestMain(m *testing.M) { needs.NoLeaks(m) }

const deadline = 60 * time.Second

var (
	keyA = bytes.Repeat([]byte{1}, 32)
	keyB = bytes.Repeat([]byte{2}, 32)
)

func config(name string, seeds ...string) Config {
	return Config{
		NodeName: name, Bind: "127.0.0.1:0", Key: keyA, Cluster: "c1",
		Meta:  Meta{Version: "v1", Role: "agent", NodeID: name},
		Seeds: func() []string { return seeds },
		Log:   slog.New(slog.DiscardHandler),
	}
}

// run starts a node and returns it with a function that makes it leave.
func run(t *testing.T, cfg Config) (*Gossip, func()) {
	t.Helper()
	g, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	tasks := lifecycle.NewTasks(t.Context())
	tasks.Go(cfg.NodeName, func(ctx context.Context) {
		if err := g.Run(ctx); err != nil {
			t.Errorf("%s: %v", cfg.NodeName, err)
		}
	})
	leave := func() {
		if err := tasks.Stop(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(leave)
	return g, leave
}

// await waits for the event that makes ok true.
func await(t *testing.T, g *Gossip, what string, ok func([]Member) bool) {
	t.Helper()
	timeout := time.After(deadline)
	for {
		changed := g.Changed()
		if ok(g.Members()) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%s did not see %s within %s: %v", g.cfg.NodeName, what, deadline, g.Members())
		}
	}
}

func count(n int) func([]Member) bool {
	return func(m []Member) bool { return len(m) == n }
}

func TestAgentFindsCoordinator(t *testing.T) {
	t.Parallel()
	cfg := config("coordinator-1")
	cfg.Meta = Meta{Version: "v1", Role: "coordinator", NodeID: "coordinator-1", NodeAddr: "127.0.0.1:7443", Zone: "a"}
	coordinator, _ := run(t, cfg)
	a1, _ := run(t, config("agent-1", coordinator.Addr()))
	a2, leave := run(t, config("agent-2", a1.Addr()))

	for _, g := range []*Gossip{coordinator, a1, a2} {
		await(t, g, "all three", count(3))
	}
	if diff := cmp.Diff([]string{"127.0.0.1:7443"}, a2.Coordinators()); diff != "" {
		t.Error(diff)
	}
	for _, m := range a2.Members() {
		if m.Meta.NodeID == "coordinator-1" && m.Meta != cfg.Meta {
			t.Errorf("metadata %+v, want %+v", m.Meta, cfg.Meta)
		}
	}
	leave()
	for _, g := range []*Gossip{coordinator, a1} {
		await(t, g, "agent-2 leave", count(2))
	}
}

func TestRestartUnderTheSameName(t *testing.T) {
	t.Parallel()
	seed, _ := run(t, config("seed"))
	former, err := Start(config("agent"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := former.list.Join([]string{seed.Addr()}); err != nil {
		t.Fatal(err)
	}
	await(t, seed, "the agent", count(2))
	if err := former.Close(); err != nil { // dies without leaving
		t.Fatal(err)
	}
	again, _ := run(t, config("agent", seed.Addr()))
	await(t, seed, "the agent's second life", func(all []Member) bool {
		for _, m := range all {
			if m.Addr == again.Addr() {
				return true
			}
		}
		return false
	})
	if err := former.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestSeedsAreTriedAgain(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 100)
	late := make(chan string, 1)
	addr := ""
	cfg := config("early")
	cfg.Seeds = func() []string {
		asked <- struct{}{}
		select {
		case addr = <-late:
		default:
		}
		if addr == "" {
			return nil
		}
		return []string{addr}
	}
	early, _ := run(t, cfg)
	<-asked
	seed, _ := run(t, config("late"))
	late <- seed.Addr()
	await(t, early, "the late seed", count(2))
}

func TestStrangersStayOut(t *testing.T) {
	t.Parallel()
	g, _ := run(t, config("g"))
	for name, alter := range map[string]func(*Config){
		"another key":     func(c *Config) { c.Key = keyB },
		"another cluster": func(c *Config) { c.Cluster = "c2" },
	} {
		cfg := config("stranger")
		alter(&cfg)
		s, err := Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := s.list.Join([]string{g.Addr()}); err == nil {
			t.Errorf("%s: joined %d", name, n)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := len(g.Members()); n != 1 {
		t.Errorf("%d members", n)
	}
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	for name, alter := range map[string]func(*Config){
		"no key":         func(c *Config) { c.Key = nil },
		"short key":      func(c *Config) { c.Key = []byte("short") },
		"no name":        func(c *Config) { c.NodeName = "" },
		"no cluster":     func(c *Config) { c.Cluster = "" },
		"large metadata": func(c *Config) { c.Meta.Zone = strings.Repeat("z", MaxMeta) },
		"bad bind":       func(c *Config) { c.Bind = "localhost" },
	} {
		cfg := config("x")
		alter(&cfg)
		if _, err := Start(cfg); ci.KindOf(err) != ci.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConflictAndBadMetadata(t *testing.T) {
	t.Parallel()
	seen := make(chan Conflict, 1)
	cfg := config("g")
	cfg.OnConflict = func(c Conflict) { seen <- c }
	g, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	a := &memberlist.Node{Name: "n", Addr: []byte{127, 0, 0, 1}, Port: 1, Meta: []byte("{")}
	b := &memberlist.Node{Name: "n", Addr: []byte{127, 0, 0, 1}, Port: 2}
	events{g}.NotifyConflict(a, b)
	if c := <-seen; c != (Conflict{"n", "127.0.0.1:1", "127.0.0.1:2"}) {
		t.Errorf("%+v", c)
	}
	events{g}.NotifyJoin(a)
	await(t, g, "the unreadable member", func(all []Member) bool {
		return len(all) == 2 && all[1].Meta == Meta{}
	})
}
