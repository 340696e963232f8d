package consensus

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
	"golang.org/x/sync/errgroup"
)

// TestNoAcknowledgedChangeIsLost kills the leader under load, over the real
// transport, and starts it again.
func TestNoAcknowledgedChangeIsLost(t *testing.T) {
	t.Parallel()
	g, a := three(t, false)
	victim := g.leader(t)

	var mu sync.Mutex
	var acked []string
	load, stop := context.WithCancel(t.Context())
	var proposers errgroup.Group
	for w := range 4 {
		proposers.Go(func() error {
			for i := 0; load.Err() == nil; i++ {
				name := fmt.Sprintf("t-%d-%d", w, i)
				for _, m := range g { // whoever leads takes it; refusals are repeated by nobody
					if _, err := m.node.Propose(load, tenant(name, 0)); err == nil {
						mu.Lock()
						acked = append(acked, name)
						mu.Unlock()
						break
					}
				}
			}
			return nil
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acked) }
	await(t, "load before the kill", func() bool { return count() > 50 })
	if err := victim.kill(); err != nil {
		t.Error(err)
	}
	at := count()
	rest := g.without(victim)
	rest.leader(t)
	await(t, "load after the kill", func() bool { return count() > at+50 })
	stop()
	_ = proposers.Wait()

	victim.mustStart(t, a)
	g.settle(t)
	for _, m := range g {
		for _, name := range acked {
			if !m.has(name) {
				t.Fatalf("%s was acknowledged and is lost on %s (of %d)", name, m.cfg.ID, len(acked))
			}
		}
	}
	g.sameLog(t)
}

// TestCutOffLeader: a leader that the others cannot hear neither verifies nor
// acknowledges, and what it was asked meanwhile is not there afterwards.
func TestCutOffLeader(t *testing.T) {
	t.Parallel()
	g, _ := three(t, true)
	old := g.leader(t)
	if err := old.node.Verify(soon(t)); err != nil {
		t.Fatalf("before the cut: %v", err)
	}
	g.link(false, old)
	if err := old.node.Verify(soon(t)); ci.KindOf(err) != ci.Unavailable || err == nil {
		t.Errorf("a cut-off leader verified: %v", err)
	}
	if _, err := old.node.Propose(soon(t), tenant("unheard", 0)); ci.KindOf(err) != ci.Unavailable || err == nil {
		t.Errorf("a cut-off leader acknowledged: %v", err)
	}
	young := g.without(old).leader(t)
	young.propose(t, "heard")
	g.link(true)
	await(t, "the old leader catch up", func() bool { return old.has("heard") })
	if old.node.IsLeader() && young.node.IsLeader() {
		if err := old.node.Verify(soon(t)); err == nil {
			t.Error("two leaders")
		}
	}
	g.settle(t)
	g.sameLog(t)
}

// TestLeadershipMoves: the work of the leader moves with it, and a node that
// loses leadership and wins it again while its old work has not ended yet
// starts it anew once it has.
func TestLeadershipMoves(t *testing.T) {
	t.Parallel()
	g, _ := three(t, true)
	first := g.leader(t)
	other := g.without(first)[0]
	ctx, cancel := context.WithCancel(t.Context())

	began := make(chan *member, 10)
	ended := make(chan struct{}) // the first term's work has heard of its end
	release := make(chan struct{})
	var work errgroup.Group
	for _, m := range g {
		held := m == first
		work.Go(func() error {
			return m.node.Lead(ctx, func(term context.Context) error {
				began <- m
				<-term.Done()
				if held {
					held = false
					close(ended)
					<-release
				}
				return term.Err()
			})
		})
	}
	if m := <-began; m != first {
		t.Errorf("work began on another node than the leader")
	}
	move(t, first, other)
	if m := <-began; m != other {
		t.Errorf("work did not move with the leadership")
	}
	<-ended
	move(t, other, first)
	select {
	case <-began:
		t.Error("a second term's work began before the first one's had ended")
	default:
	}
	close(release)
	if m := <-began; m != first {
		t.Errorf("won again, but the work began elsewhere")
	}
	cancel()
	if err := work.Wait(); err != nil {
		t.Fatal(err)
	}
}

func move(t *testing.T, from, to *member) {
	t.Helper()
	await(t, "the move of the leadership", func() bool {
		if to.node.IsLeader() {
			return true
		}
		if from.node.isRaftLeader() {
			_ = from.node.raft.LeadershipTransferToServer(to.node.raftConfig().LocalID, to.node.net.LocalAddr()).Error()
		}
		return to.node.IsLeader()
	})
}

func TestFollowerRefuses(t *testing.T) {
	t.Parallel()
	g, _ := three(t, true)
	leader := g.leader(t)
	follower := g.without(leader)[0]
	if err := follower.node.WaitLeader(soon(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := follower.node.Propose(soon(t), tenant("x", 0)); ci.KindOf(err) != ci.Unavailable {
		t.Errorf("Propose = %v", err)
	}
	if addr, ok := follower.node.Leader(); !ok || addr != string(leader.node.net.LocalAddr()) {
		t.Errorf("Leader = %q, %v", addr, ok)
	}
	// A clean close hands leadership over.
	leader.stop(t)
	g.without(leader).leader(t)
}
