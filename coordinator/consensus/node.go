// Package consensus replicates the log. It alone knows raft: to the others it
// is a Proposer, a Verify and a Lead. DESIGN.md explains what it promises.
package consensus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/pki"
)

// Config is what Open needs.
type Config struct {
	Dir       string // the node's own folder; made when missing
	ID        string // as in the node's certificate; see NodeID
	ClusterID string // as in the node's certificate; stamped into a new cluster
	// Listener gives the members' raft connections, as Mux.Raft does; TLS is what
	// this node shows when it dials the others.
	Listener net.Listener
	TLS      *pki.Source
	// Resolve returns the present node address of a member, as gossip knows it;
	// nil, or false, for the address with which the member joined.
	Resolve func(nodeID string) (addr string, ok bool)
	// Bootstrap makes a new cluster of this one node where Dir holds none yet.
	// In the whole life of a cluster exactly one node does that once.
	Bootstrap bool
	Profile   Profile // default Single
	Store     *state.Store
	Log       *slog.Logger

	transport raft.Transport // of tests
	tick      time.Duration
}

// tickEvery is how long an idle leader leaves cluster time alone.
const tickEvery = 5 * time.Second

// Node is a member of the cluster. It implements state.Proposer.
type Node struct {
	cfg      Config
	raft     *raft.Raft
	disk     *disk
	net      raft.Transport
	cancel   context.CancelFunc // ends what the transport is dialling
	tasks    *lifecycle.Tasks
	queue    *queue
	terms    *terms
	observed chan raft.Observation

	entries, commands, largest atomic.Uint64

	failOnce  sync.Once
	failed    chan struct{}
	failure   error
	closeOnce sync.Once
	closeErr  error
}

// Open starts the node: it restores the last snapshot, replays the log and takes
// part from then on. It does not wait for a leader; WaitLeader does. The folder
// is locked: a second process gets ci.Conflict.
func Open(cfg Config) (*Node, error) {
	if cfg.Profile == (Profile{}) {
		cfg.Profile = Single()
	}
	if cfg.tick == 0 {
		cfg.tick = tickEvery
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder of the log: %w", err)
	}
	d, err := openDisk(cfg.Dir, cfg.Log)
	if err != nil {
		return nil, err
	}
	dir := &directory{resolve: cfg.Resolve}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // the node's life ends with Close
	n := &Node{
		cfg: cfg, disk: d, net: cfg.transport, cancel: cancel,
		tasks: lifecycle.NewTasks(ctx),
		queue: newQueue(), terms: newTerms(),
		observed: make(chan raft.Observation, 1),
		failed:   make(chan struct{}),
	}
	if n.net == nil {
		n.net = newTransport(ctx, cfg, dir)
	}
	if err := n.startRaft(); err != nil {
		cancel()
		return nil, errors.Join(err, n.closeNet(), d.close())
	}
	dir.raft.Store(n.raft)
	n.raft.RegisterObserver(raft.NewObserver(n.observed, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
	n.tasks.Go("terms", n.watchTerms)
	return n, nil
}

func (n *Node) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.cfg.ID)
	c.HeartbeatTimeout, c.ElectionTimeout = n.cfg.Profile.Heartbeat, n.cfg.Profile.Election
	c.LeaderLeaseTimeout, c.CommitTimeout = n.cfg.Profile.Lease, n.cfg.Profile.Commit
	c.SnapshotThreshold, c.TrailingLogs = snapshotEntries, trailingEntries
	c.Logger = newRaftLog(n.cfg.Log, "raft")
	c.NoLegacyTelemetry = true
	return c
}

func (n *Node) startRaft() error {
	conf, d := n.raftConfig(), n.disk
	exists, err := raft.HasExistingState(d.wal, d.wal, d.snaps)
	if err != nil {
		return fmt.Errorf("cannot read the log: %w", err)
	}
	if n.cfg.Bootstrap && !exists {
		alone := raft.Configuration{Servers: []raft.Server{
			{Suffrage: raft.Voter, ID: conf.LocalID, Address: n.net.LocalAddr()},
		}}
		if err := raft.BootstrapCluster(conf, d.wal, d.wal, d.snaps, n.net, alone); err != nil {
			return fmt.Errorf("cannot bootstrap the cluster: %w", err)
		}
	}
	n.raft, err = raft.NewRaft(conf, fsm{n.cfg.Store}, d.wal, d.wal, d.snaps, n.net)
	if err != nil {
		return fmt.Errorf("cannot start raft: %w", err)
	}
	return nil
}

const seedBytes = 32

// initCluster gives a new cluster its identity, and refuses to lead another one
// than the node's certificate names.
func (n *Node) initCluster(t *term) error {
	switch have := n.cfg.Store.View().Cluster().ID; have {
	case n.cfg.ClusterID:
		return nil
	case "":
	default:
		return ci.Errorf(ci.Conflict, "the data folder %s is of cluster %s, but this node's certificate is of cluster %s", n.cfg.Dir, have, n.cfg.ClusterID)
	}
	seed := make([]byte, seedBytes)
	_, _ = rand.Read(seed) // never fails: crypto/rand ends the process instead
	_, errs, err := n.append(state.Entry{Stamp: n.stamp(t), Commands: []state.Command{
		{Actor: ci.System, Op: &state.InitCluster{ID: n.cfg.ClusterID, Seed: seed}},
	}})
	if err == nil {
		err = errs[0]
	}
	return err
}

// fail makes Run return err. The first one counts.
func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.failure = err
		close(n.failed)
	})
}

// Run makes the node a member of a lifecycle.Group: it stays until ctx ends or
// the node cannot go on, and closes it.
func (n *Node) Run(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
	case <-n.failed:
		err = n.failure
	case <-n.tasks.Failed():
	}
	return errors.Join(err, n.Close())
}

// Close ends the node's term, hands leadership to another voter if there is one,
// and stops. What was acknowledged is on disk, closed or not.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		if n.isRaftLeader() && n.voters() > 1 {
			if err := n.raft.LeadershipTransfer().Error(); err != nil {
				n.cfg.Log.Info("cannot hand leadership over: the others elect", "err", err)
			}
		}
		err := n.tasks.Stop()
		n.cancel()
		n.closeErr = errors.Join(err, n.raft.Shutdown().Error(), n.closeNet(), n.disk.close())
	})
	return n.closeErr
}

func (n *Node) closeNet() error {
	if c, ok := n.net.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}
