package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"golang.org/x/sync/errgroup"
)

var _ state.Proposer = (*Node)(nil)

func TestSingleVoterKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	a, m := authority(t), newMember(t)
	m.mustStart(t, a)
	m.mustLead(t)
	first := m.propose(t, "one")
	if second := m.propose(t, "two"); second <= first {
		t.Errorf("index %d after %d", second, first)
	}
	before := m.node.cfg.Store.View().Stamp()
	if err := m.kill(); err != nil {
		t.Fatal(err)
	}
	m.mustStart(t, a) // on another port
	m.mustLead(t)
	if !m.has("one") || !m.has("two") {
		t.Error("an acknowledged change is lost")
	}
	if got := m.node.cfg.Store.View().Cluster().ID; got != a.Cluster() {
		t.Errorf("cluster %q, want %q", got, a.Cluster())
	}
	m.propose(t, "three")
	if after := m.node.cfg.Store.View().Stamp(); after.Cluster < before.Cluster {
		t.Errorf("cluster time went back from %s to %s", before.Cluster, after.Cluster)
	}
}

func TestSnapshotIsRestored(t *testing.T) {
	t.Parallel()
	a, m := authority(t), newMember(t)
	m.cfg.tick = time.Hour // no entries but those of the test
	m.mustStart(t, a)
	m.mustLead(t)
	m.propose(t, "one")
	if err := m.node.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	m.propose(t, "two")
	want := m.node.cfg.Store.Hash()
	if err := m.kill(); err != nil {
		t.Fatal(err)
	}
	m.mustStart(t, a)
	m.mustLead(t)
	if !m.has("one") || !m.has("two") || m.node.cfg.Store.Hash() != want {
		t.Error("snapshot and log do not give the state that there was")
	}
}

func TestProposeAnswersEachCommand(t *testing.T) {
	t.Parallel()
	m := single(t, nil)
	var g errgroup.Group
	for i := range 200 {
		g.Go(func() error {
			c := tenant(fmt.Sprintf("t-%d", i), 0)
			if i%10 == 0 {
				c.Op.(*state.CreateTenant).Tenant.MaxQueued = -1
			}
			_, err := m.node.Propose(soon(t), c)
			if refused := ci.KindOf(err) == ci.Invalid && err != nil; refused != (i%10 == 0) {
				return fmt.Errorf("command %d: %w", i, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	s := m.node.Stats()
	if s.Commands != 201 || s.Entries >= s.Commands { // cluster.init is one too
		t.Errorf("%d commands in %d entries: nothing was batched", s.Commands, s.Entries)
	}
	if s.State != "leader" || s.Members != 1 || s.Applied == 0 || s.LastIndex < s.Applied || s.Term == 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestProposeAllKeepsTheOrder(t *testing.T) {
	t.Parallel()
	m := single(t, nil)
	var g errgroup.Group
	for crowd := range 8 {
		var cmds []state.Command
		for i := range 50 {
			id := ci.TokenID(fmt.Sprintf("t-%d-%d", crowd, i))
			cmds = append(cmds,
				state.Command{Actor: ci.System, Op: &state.CreateToken{Token: ci.Token{ID: id, Hash: string(id)}}},
				state.Command{Actor: ci.System, Op: &state.RevokeToken{ID: id}})
		}
		g.Go(func() error { return errors.Join(m.node.ProposeAll(soon(t), cmds)...) })
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	for crowd := range 8 {
		for i := range 50 {
			if id := fmt.Sprintf("t-%d-%d", crowd, i); m.node.cfg.Store.View().TokenByHash(id) != nil {
				t.Errorf("token %s was revoked before it was made", id)
			}
		}
	}
	big := m.node.ProposeAll(soon(t), []state.Command{tenant("one", 0), tenant("two", MaxBatch), tenant("three", 0)})
	if big[0] != nil || ci.KindOf(big[1]) != ci.Invalid || big[2] == nil || m.has("three") {
		t.Errorf("with one that is not taken: %v", big)
	}
}

func TestEntriesStaySmall(t *testing.T) {
	t.Parallel()
	m := single(t, nil)
	var g errgroup.Group
	for i := range 40 {
		g.Go(func() error {
			_, err := m.node.Propose(soon(t), tenant(fmt.Sprintf("t-%d", i), 10_000*(i%19)))
			return err
		})
	}
	g.Go(func() error {
		_, err := m.node.Propose(soon(t), tenant("too-large", MaxBatch))
		if ci.KindOf(err) != ci.Invalid {
			return fmt.Errorf("a command above the limit: %w", err)
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if s := m.node.Stats(); s.LargestEntry > MaxEntry || s.LargestEntry < 170_000 {
		t.Errorf("the largest entry has %d bytes", s.LargestEntry)
	}
	if m.has("too-large") {
		t.Error("the refused command was applied")
	}
}

func TestIdleLeaderKeepsClusterTimeGoing(t *testing.T) {
	t.Parallel()
	m := single(t, func(c *Config) { c.tick = 10 * time.Millisecond })
	at, index := m.node.Now(), m.node.Index()
	await(t, "three ticks", func() bool { return m.node.Index() >= index+3 })
	if stamp := m.node.cfg.Store.View().Stamp(); stamp.Cluster <= at || stamp.Wall.IsZero() {
		t.Errorf("stamp %+v, want more than %s", stamp, at)
	}
	if m.node.Now() < m.node.cfg.Store.View().Stamp().Cluster {
		t.Error("Now is behind the state")
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	m := single(t, nil)
	index := m.node.Index()
	if err := m.node.Verify(soon(t)); err != nil {
		t.Fatal(err)
	}
	if m.node.Index() <= index {
		t.Error("nothing was committed to verify with")
	}
}

func TestProposeGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	n := &Node{queue: newQueue()} // with a leader whose entry in flight never ends
	n.queue.start()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := n.Propose(gone, tenant("before", 0))
	if ci.KindOf(err) != ci.Canceled || n.queue.bytes != 0 {
		t.Errorf("canceled before: %v", err)
	}

	var g errgroup.Group
	for _, inFlight := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		g.Go(func() error {
			_, err := n.Propose(ctx, tenant("during", 0))
			unknown := err != nil && strings.Contains(err.Error(), unknownOutcome)
			if unknown != inFlight || ci.KindOf(err) != ci.Canceled {
				return fmt.Errorf("in flight %v: %w", inFlight, err)
			}
			return nil
		})
		<-n.queue.wake
		if inFlight {
			n.queue.take()
		}
		cancel()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestClosedNodeRefuses(t *testing.T) {
	t.Parallel()
	m := single(t, nil)
	if err := m.node.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.node.Propose(soon(t), tenant("closed", 0)); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("Propose = %v", err)
	}
	if err := m.node.Verify(soon(t)); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("Verify = %v", err)
	}
}

// BenchmarkPropose shows what one fsync each costs, and what sharing it saves.
func BenchmarkPropose(b *testing.B) {
	for _, at := range []int{1, 64} {
		b.Run(fmt.Sprintf("waiting=%d", at), func(b *testing.B) {
			m := &member{cfg: Config{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler), Bootstrap: true}}
			if err := m.start(authority(b)); err != nil {
				b.Fatal(err)
			}
			defer func() { _, _ = m.node.Close(), m.tasks.Stop() }()
			if err := m.node.WaitLeader(b.Context()); err != nil {
				b.Fatal(err)
			}
			var g errgroup.Group
			g.SetLimit(at)
			for i := range b.N {
				g.Go(func() error {
					_, err := m.node.Propose(b.Context(), tenant(fmt.Sprintf("t-%d", i%1000), 200))
					return err
				})
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func TestFolderIsLocked(t *testing.T) {
	t.Parallel()
	m := single(t, nil)
	if _, err := Open(m.cfg); ci.KindOf(err) != ci.Conflict {
		t.Errorf("second Open: %v", err)
	}
}

func TestFolderOfAnotherCluster(t *testing.T) {
	t.Parallel()
	m := single(t, nil)
	if err := m.kill(); err != nil {
		t.Fatal(err)
	}
	m.mustStart(t, authority(t))
	if err := m.node.Run(soon(t)); ci.KindOf(err) != ci.Conflict {
		t.Errorf("Run = %v", err)
	}
}

func TestRunClosesTheNode(t *testing.T) {
	t.Parallel()
	m := single(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.node.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.node.WaitLeader(ctx); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("WaitLeader = %v", err)
	}
}

func TestNodeID(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new")
	first, err := NodeID(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := NodeID(dir); err != nil || again != first {
		t.Errorf("%q, %v after %q", again, err, first)
	}
	if err := os.WriteFile(filepath.Join(dir, nodeIDFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NodeID(dir); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("damaged: %v", err)
	}
}
