package coordinator

import (
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/slipway-ci/slipway/coordinator/consensus"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/pki"
)

// Config is what a coordinator is made of.
type Config struct {
	Dir string // the node's own folder: log, snapshots, first token. Required
	// Listen is where people and tools call: HOST:PORT of a loopback address,
	// port 0 for any free one. It speaks plain HTTP, so nothing else is allowed.
	Listen string
	// NodeListen is where agents and other coordinators call, over mutual TLS.
	NodeListen string
	// Bootstrap makes a new cluster where Dir holds none yet. In the whole life
	// of a cluster exactly one node does that once.
	Bootstrap bool

	// Identity is the node's certificate. Without one, Authority issues it.
	Identity  *pki.Source
	Authority *pki.Authority

	Bucket objectstore.Config
	Prefix string // of every key in the bucket; may be empty

	GossipBind string          // IP:port, port 0 for any free one
	GossipKey  []byte          // required
	Seeds      func() []string // gossip addresses to join through; nil for none

	S3Endpoint string // shown to clients; default that of Bucket
	Registry   string // shown to clients; may be empty

	InitialGrants []string // of tenant default when it is made

	Profile      consensus.Profile // default that of a single voter
	Heartbeat    time.Duration     // of agents; default 3 s
	SuspectAfter time.Duration     // of an agent's silence; default 10 s
	LostAfter    time.Duration     // of an agent's silence; default 3 min

	// Ready is called once the node serves a cluster with a leader; nil is allowed.
	Ready func(Info)
	Log   *slog.Logger
}

// Info is what a coordinator found out about itself.
type Info struct {
	Node      string
	Cluster   string
	Listen    string // address of the API
	NodeAddr  string // address of the node port
	Gossip    string // address to join through
	TokenFile string // where the first token lies
}

// certificateLife is how long a certificate lasts that the node issues itself;
// every start makes a new one.
const certificateLife = 365 * 24 * time.Hour

// withDefaults fills what may be left out and refuses what must not.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Dir == "":
		return c, ci.FieldErrorf(ci.Invalid, "dir", "cannot run a coordinator without a folder of its own")
	case c.Identity == nil && c.Authority == nil:
		return c, ci.FieldErrorf(ci.Invalid, "identity", "cannot run a coordinator without a certificate")
	case len(c.GossipKey) == 0:
		return c, ci.FieldErrorf(ci.Invalid, "gossip_key", "cannot run a coordinator without a gossip key")
	case c.Log == nil:
		return c, ci.FieldErrorf(ci.Invalid, "log", "cannot run a coordinator without a log")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, ci.Errorf(ci.Invalid, "cannot use %q as the coordinator's folder: %w", c.Dir, err)
	}
	c.Dir = dir
	if c.S3Endpoint == "" {
		c.S3Endpoint = c.Bucket.Endpoint
	}
	return c, nil
}

func (c Config) raftDir() string   { return filepath.Join(c.Dir, "raft") }
func (c Config) tokenFile() string { return filepath.Join(c.Dir, "token") }

// listen opens the API's listener. Tokens travel over it in the clear.
func (c Config) listen() (net.Listener, error) {
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, ci.FieldErrorf(ci.Unavailable, "listen", "cannot listen on %s for the API: %w; take another address with --listen, port 0 is any free one", c.Listen, err)
	}
	if a, ok := ln.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		_ = ln.Close()
		return nil, ci.FieldErrorf(ci.Invalid, "listen",
			"cannot serve the API on %s: it speaks plain HTTP, which is for loopback addresses alone; take 127.0.0.1, and a TLS proxy before it", c.Listen)
	}
	return ln, nil
}
