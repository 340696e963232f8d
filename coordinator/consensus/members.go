package consensus

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
	"github.com/slipway-ci/slipway/shared/ci"
)

// Stats is what a page or a metric shows of the node.
type Stats struct {
	State     string // leader, follower, candidate
	Term      uint64
	LastIndex uint64 // of the log
	Applied   uint64 // by the state
	Members   int
	// Of this process as leader:
	Entries, Commands uint64
	LargestEntry      uint64 // bytes
}

// Stats returns the node's figures.
func (n *Node) Stats() Stats {
	return Stats{
		State: lower[n.raft.State()], Term: n.raft.CurrentTerm(),
		LastIndex: n.raft.LastIndex(), Applied: n.Index(), Members: len(n.servers()),
		Entries: n.entries.Load(), Commands: n.commands.Load(), LargestEntry: n.largest.Load(),
	}
}

var lower = map[raft.RaftState]string{
	raft.Leader: "leader", raft.Follower: "follower", raft.Candidate: "candidate", raft.Shutdown: "shutdown",
}

func (n *Node) isRaftLeader() bool { return n.raft.State() == raft.Leader }

// IsLeader reports whether this node is in a term of its own. It is a hint for
// pages: only Verify and Propose know.
func (n *Node) IsLeader() bool {
	t, _ := n.terms.get()
	return t != nil
}

// Leader returns the node address of the leader that this node knows of.
func (n *Node) Leader() (addr string, ok bool) {
	a, _ := n.raft.LeaderWithID()
	return string(a), a != ""
}

// Index returns the index of the last entry that the state has applied.
func (n *Node) Index() uint64 { return n.cfg.Store.View().Index() }

// Now returns the cluster time: on the leader it goes on between entries, on
// others it is that of the last entry applied.
func (n *Node) Now() ci.ClusterTime {
	last := n.cfg.Store.View().Stamp().Cluster
	if t, _ := n.terms.get(); t != nil {
		return max(t.now(), last)
	}
	return last
}

// WaitLeader returns once this node is in a term of its own or knows another
// leader.
func (n *Node) WaitLeader(ctx context.Context) error {
	for {
		current, changed := n.terms.get()
		if current != nil {
			return nil
		}
		if _, known := n.Leader(); known && !n.isRaftLeader() {
			return nil
		}
		select {
		case <-changed:
		case <-n.failed:
			return n.failure
		case <-ctx.Done():
			return ci.Errorf(ci.Unavailable, "no coordinator leads the cluster: %w", context.Cause(ctx))
		}
	}
}

// Join adds a voter, or gives a known one another address. Only the leader can.
func (n *Node) Join(ctx context.Context, nodeID, addr string) error {
	within := time.Duration(0)
	if d, ok := ctx.Deadline(); ok {
		within = time.Until(d)
	}
	f := n.raft.AddVoter(raft.ServerID(nodeID), raft.ServerAddress(addr), 0, within)
	if err := f.Error(); err != nil {
		return ci.Errorf(ci.Unavailable, "cannot add member %s at %s: %w", nodeID, addr, err)
	}
	return nil
}

func (n *Node) servers() []raft.Server {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return nil // shut down
	}
	return f.Configuration().Servers
}

func (n *Node) voters() int {
	voters := 0
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	return voters
}
