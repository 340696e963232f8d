// Package gossip says who is alive and where. It is an address book and a hint:
// everyone with the key is in it and may claim to be anything, so it gives no
// identity (dial and check the certificate) and declares nothing lost (the
// lease does that).
package gossip

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/id"
)

// MaxMeta is the size in bytes that a node's encoded metadata may have.
const MaxMeta = 200

const (
	// reclaim is when a dead node's name may come back from another address;
	// memberlist's own default is never.
	reclaim = 30 * time.Second
	// rejoin is how often seeds that are not alive here are tried again: without
	// it the halves of a healed split would never find each other.
	rejoin      = 5 * time.Second
	rejoinAlone = time.Second
	leaveWithin = 2 * time.Second
)

// Meta is what a node says of itself.
type Meta struct {
	Version  string `json:"v,omitempty"`
	Role     string `json:"r"` // as in a certificate: "agent" or "coordinator"
	NodeID   string `json:"n"`
	NodeAddr string `json:"a,omitempty"` // host:port of the node port; empty for an agent
	Zone     string `json:"z,omitempty"`
}

// Member is a node believed alive.
type Member struct {
	Name string // of the node and its boot
	Addr string // host:port of its gossip
	Meta Meta   // its own claim; zero when it cannot be read
}

// Conflict tells that two live nodes use one name.
type Conflict struct {
	Name     string
	Kept     string // gossip address of the one that keeps it
	Rejected string // gossip address of the other
}

// Config is what Start needs.
type Config struct {
	// NodeName names the node, as its id does. A short nonce is added at each
	// start, so that a restarted node is never refused for its former self.
	NodeName string
	Bind     string // IP:port; port 0 for any free one. On loopback, timings are fast.
	Key      []byte // AES key of 16, 24 or 32 bytes, required
	Cluster  string // cluster id; packets of other clusters are dropped
	Meta     Meta
	// Seeds returns the gossip addresses to join through; it is asked again
	// before each try. Nil for none.
	Seeds      func() []string
	OnConflict func(Conflict) // may be nil; must not block
	Log        *slog.Logger
}

// Gossip is this node's part in the gossip.
type Gossip struct {
	cfg  Config
	list *memberlist.Memberlist

	mu      sync.Mutex
	members map[string]Member // by name; with this node
	changed chan struct{}     // closed at the next change
	closed  bool
}

// Start opens the sockets. Others are joined by Run.
func Start(cfg Config) (*Gossip, error) {
	meta, err := json.Marshal(cfg.Meta)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the gossip metadata: %w", err)
	}
	host, port, err := splitBind(cfg.Bind)
	switch {
	case err != nil:
		return nil, ci.Errorf(ci.Invalid, "cannot start gossip on %q: %w", cfg.Bind, err)
	case len(meta) > MaxMeta:
		return nil, ci.Errorf(ci.Invalid, "cannot start gossip: metadata has %d bytes, more than %d: %s", len(meta), MaxMeta, meta)
	case cfg.NodeName == "" || cfg.Cluster == "":
		return nil, ci.Errorf(ci.Invalid, "cannot start gossip without a node name and a cluster id")
	case memberlist.ValidateKey(cfg.Key) != nil:
		return nil, ci.Errorf(ci.Invalid, "cannot start gossip: the key has %d bytes, not 16, 24 or 32", len(cfg.Key))
	}
	g := &Gossip{cfg: cfg, members: make(map[string]Member), changed: make(chan struct{})}
	mc := memberlist.DefaultLANConfig()
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		mc = memberlist.DefaultLocalConfig()
	}
	mc.Name = cfg.NodeName + "-" + strings.ToLower(id.Secret(4))
	mc.BindAddr, mc.BindPort, mc.AdvertisePort = host, port, port
	mc.Label = "slipway/" + cfg.Cluster
	mc.SecretKey = cfg.Key
	mc.DeadNodeReclaimTime = reclaim
	mc.Delegate, mc.Events, mc.Conflict = metadata(meta), events{g}, events{g}
	mc.Logger = log.New(debugLines{cfg.Log}, "", 0)
	if g.list, err = memberlist.Create(mc); err != nil {
		return nil, fmt.Errorf("cannot start gossip on %s: %w", cfg.Bind, err)
	}
	return g, nil
}

func splitBind(bind string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(bind)
	if err != nil {
		return "", 0, err
	}
	if net.ParseIP(host) == nil {
		return "", 0, fmt.Errorf("%q is not an IP address", host)
	}
	port, err = strconv.Atoi(p)
	return host, port, err
}

// Addr returns the gossip address, host:port, that others can join through.
func (g *Gossip) Addr() string { return g.list.LocalNode().Address() }

// Members returns the nodes believed alive, this one among them, by name.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]Member, 0, len(g.members))
	for _, m := range g.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Coordinators returns the node addresses of those that claim to be
// coordinators. The claim proves nothing: the certificate does.
func (g *Gossip) Coordinators() []string {
	var addrs []string
	for _, m := range g.Members() {
		if m.Meta.Role == "coordinator" && m.Meta.NodeAddr != "" {
			addrs = append(addrs, m.Meta.NodeAddr)
		}
	}
	return addrs
}

// Changed returns a channel that is closed at the next change of Members. Ask
// for it before reading, then wait on it: no change is missed and many count as
// one.
func (g *Gossip) Changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// Run joins the seeds, again and again those that are not alive here, until ctx
// ends; then it leaves, so that nobody has to suspect this node, and closes.
func (g *Gossip) Run(ctx context.Context) error {
	for {
		g.join()
		wait := rejoin
		if len(g.Members()) < 2 {
			wait = rejoinAlone
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
			continue
		case <-ctx.Done():
		}
		timer.Stop()
		if err := g.list.Leave(leaveWithin); err != nil {
			g.cfg.Log.Debug("gossip: others will only notice that this node is gone", "err", err)
		}
		return g.Close()
	}
}

// Close closes the sockets without leaving; Run does it too.
func (g *Gossip) Close() error {
	g.mu.Lock()
	was := g.closed
	g.closed = true
	g.mu.Unlock()
	if was {
		return nil
	}
	if err := g.list.Shutdown(); err != nil {
		return fmt.Errorf("cannot close gossip: %w", err)
	}
	return nil
}

func (g *Gossip) join() {
	if g.cfg.Seeds == nil {
		return
	}
	alive := make(map[string]bool)
	for _, m := range g.Members() {
		alive[m.Addr] = true
	}
	missing := slices.DeleteFunc(g.cfg.Seeds(), func(addr string) bool { return alive[addr] })
	if len(missing) == 0 {
		return
	}
	if _, err := g.list.Join(missing); err != nil {
		g.cfg.Log.Debug("gossip: no seed answers, trying again", "seeds", missing, "err", err)
	}
}
