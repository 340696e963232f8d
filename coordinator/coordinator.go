// Package coordinator wires a member of the cluster: what decides, what serves,
// and what both stand on.
package coordinator

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"

	"github.com/slipway-ci/slipway/coordinator/api"
	"github.com/slipway-ci/slipway/coordinator/auth"
	"github.com/slipway-ci/slipway/coordinator/consensus"
	"github.com/slipway-ci/slipway/coordinator/dispatch"
	"github.com/slipway-ci/slipway/coordinator/engine"
	"github.com/slipway-ci/slipway/coordinator/logs"
	"github.com/slipway-ci/slipway/coordinator/scheduler"
	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/gossip"
	"github.com/slipway-ci/slipway/shared/id"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/pki"
	"github.com/slipway-ci/slipway/shared/version"
)

// coordinator is one member of the cluster.
type coordinator struct {
	cfg      Config
	who      pki.Identity
	root     string // s3://bucket/prefix/<cluster id>
	bucket   *objectstore.S3
	apiLn    net.Listener
	store    *state.Store
	mux      *consensus.Mux
	gossip   *gossip.Gossip
	node     *consensus.Node
	sched    *scheduler.Scheduler
	engine   *engine.Engine
	dispatch *dispatch.Service
	api      *api.API
	started  atomic.Bool // the state here is what was committed, not a part of it
}

// Run runs a coordinator until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	c := &coordinator{cfg: cfg, store: state.New()}
	if err := c.open(ctx); err != nil {
		return errors.Join(err, c.closeEarly())
	}
	c.wire()
	defer c.bucket.Close()

	// Members stop from the last to the first, and each has its reason:
	var g lifecycle.Group
	g.Add("gossip", c.gossip.Run)      // says farewell when nothing is here any more
	g.Add("node port", c.mux.Run)      // carries raft
	g.Add("raft", c.node.Run)          // hands leadership over, when nobody proposes any more
	g.Add("leader", c.leadWhenElected) // decides until there is nobody left to tell
	g.Add("node calls", c.serveNodes)  // agents' last calls get an answer
	g.Add("dispatch", c.dispatch.Run)  // ends the streams: agents go to another coordinator at once
	g.Add("api", func(ctx context.Context) error { return c.api.Serve(ctx, c.apiLn) })
	g.Add("long polls", c.api.Run) // ends them first, or the API would wait for them
	g.Add("first start", c.firstStart)
	return g.Run(ctx)
}

// open opens what can fail before anything runs.
func (c *coordinator) open(ctx context.Context) error {
	cfg := c.cfg
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return ci.Errorf(ci.Invalid, "cannot make the coordinator's folder: %w", err)
	}
	identity, err := c.identity()
	if err != nil {
		return err
	}
	c.who = identity.Identity()
	if c.bucket, err = objectstore.Open(ctx, cfg.Bucket); err != nil {
		return err
	}
	c.root = root(cfg, c.who.Cluster)
	if c.apiLn, err = cfg.listen(); err != nil {
		return err
	}
	nodeLn, err := net.Listen("tcp", cfg.NodeListen)
	if err != nil {
		return ci.FieldErrorf(ci.Unavailable, "node_listen", "cannot listen on %s for nodes: %w", cfg.NodeListen, err)
	}
	c.mux = consensus.NewMux(nodeLn, identity, cfg.Log)
	c.gossip, err = gossip.Start(gossip.Config{
		NodeName: c.who.NodeID, Bind: cfg.GossipBind, Key: cfg.GossipKey, Cluster: c.who.Cluster,
		Meta: gossip.Meta{
			Version: version.Version, Role: string(pki.RoleCoordinator), NodeID: c.who.NodeID, NodeAddr: nodeLn.Addr().String(),
		},
		Seeds: cfg.Seeds, Log: cfg.Log,
	})
	if err != nil {
		return errors.Join(err, nodeLn.Close())
	}
	c.node, err = consensus.Open(consensus.Config{
		Dir: cfg.raftDir(), ID: c.who.NodeID, ClusterID: c.who.Cluster,
		Listener: c.mux.Raft(), TLS: identity, Resolve: c.resolve,
		Bootstrap: cfg.Bootstrap, Profile: cfg.Profile, Store: c.store, Log: cfg.Log,
	})
	if err != nil {
		return errors.Join(err, nodeLn.Close())
	}
	return nil
}

// closeEarly gives back what open has opened, when nothing will run.
func (c *coordinator) closeEarly() error {
	var errs []error
	if c.gossip != nil {
		errs = append(errs, c.gossip.Close())
	}
	if c.apiLn != nil {
		errs = append(errs, c.apiLn.Close())
	}
	if c.bucket != nil {
		c.bucket.Close()
	}
	return errors.Join(errs...)
}

// identity is the node's certificate.
func (c *coordinator) identity() (*pki.Source, error) {
	if c.cfg.Identity != nil {
		return c.cfg.Identity, nil
	}
	nodeID, err := consensus.NodeID(c.cfg.raftDir())
	if err != nil {
		return nil, err
	}
	bundle, err := c.cfg.Authority.Issue(pki.RoleCoordinator, nodeID, nil, certificateLife)
	if err != nil {
		return nil, err
	}
	return pki.NewSource(bundle)
}

func root(cfg Config, cluster string) string {
	r := logpath.Scheme + cfg.Bucket.Bucket + "/"
	if cfg.Prefix != "" {
		r += cfg.Prefix + "/"
	}
	return r + cluster
}

// resolve finds where a member is now.
func (c *coordinator) resolve(nodeID string) (string, bool) {
	for _, m := range c.gossip.Members() {
		if m.Meta.NodeID == nodeID && m.Meta.NodeAddr != "" {
			return m.Meta.NodeAddr, true
		}
	}
	return "", false
}

// wire makes the parts and ties them together. Siblings do not know each other:
// what one needs of another is an adapter here.
func (c *coordinator) wire() {
	cfg := c.cfg
	c.dispatch = dispatch.New(dispatch.Config{
		Store: c.store, Proposer: c.node, Verify: c.node.Verify, Ready: c.begun, Root: c.root,
		Heartbeat: cfg.Heartbeat, SuspectAfter: cfg.SuspectAfter, Log: cfg.Log,
	})
	reader := logs.New(logs.Config{Bucket: c.bucket, Tailer: c.dispatch, Log: cfg.Log})
	c.sched = scheduler.New(scheduler.Deps{Store: c.store, Proposer: c.node, Now: c.node.Now, Log: cfg.Log})
	c.engine = engine.New(engine.Deps{
		Source: c.store, Proposer: c.node, Now: c.node.Now, NewID: id.New,
		Status: reader, Root: c.root, LostAfter: cfg.LostAfter, Explain: c.whyText, Log: cfg.Log,
	})
	c.api = api.New(api.Config{
		Store: c.store, Proposer: c.node, Caller: caller, Logs: logReader{reader}, Uploads: c.bucket,
		Explainer: explainer{c.sched}, Leader: c.node.Leader, Now: c.node.Now, Ready: c.ready, Root: c.root,
		Info: api.Info{Node: c.who.NodeID, S3Endpoint: cfg.S3Endpoint, Registry: cfg.Registry},
		Auth: auth.New(auth.Config{
			Ready: c.begun,
			Token: func(hash string) *ci.Token { return c.store.View().TokenByHash(hash) },
			Hint:  "the first one lies in " + cfg.tokenFile() + " on the coordinator's host",
			Log:   cfg.Log,
		}),
		Log: cfg.Log,
	})
}

// begun refuses calls while the log is still being read: a state of which half is
// there knows nobody's token and misses runs that were acknowledged.
func (c *coordinator) begun() error {
	if !c.started.Load() {
		return ci.Errorf(ci.Unavailable, "the coordinator is starting: it has not read its log yet; try again")
	}
	return nil
}

// ready returns why the node cannot serve, or nil.
func (c *coordinator) ready() error {
	if err := c.begun(); err != nil {
		return err
	}
	if _, ok := c.node.Leader(); !ok {
		return ci.Errorf(ci.Unavailable, "the cluster has no leader")
	}
	if c.store.View().Cluster().ID == "" {
		return ci.Errorf(ci.Unavailable, "the cluster is not here yet")
	}
	return nil
}
