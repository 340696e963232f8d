package consensus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/slipway-ci/slipway/shared/pki"
)

const (
	transportTimeout = 10 * time.Second
	transportPool    = 3
)

// stream is raft's stream layer over mutual TLS. Raft's transport leaves its
// connections open when it is closed, with a goroutine reading each that comes
// in; so they are counted here, and closed with the stream.
type stream struct {
	ctx context.Context // ends with the node: raft's seam has none for dialling
	ln  net.Listener
	src *pki.Source

	mu     sync.Mutex
	conns  map[*counted]struct{}
	closed bool
}

func newStream(ctx context.Context, ln net.Listener, src *pki.Source) *stream {
	return &stream{ctx: ctx, ln: ln, src: src, conns: make(map[*counted]struct{})}
}

// counted is a connection of a stream.
type counted struct {
	net.Conn
	of *stream
}

func (c *counted) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

func (s *stream) count(conn net.Conn) (net.Conn, error) {
	c := &counted{Conn: conn, of: s}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.conns[c] = struct{}{}
	}
	s.mu.Unlock()
	if closed {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	return c, nil
}

func (s *stream) Accept() (net.Conn, error) {
	conn, err := s.ln.Accept()
	if err != nil {
		return nil, err
	}
	return s.count(conn)
}

func (s *stream) Addr() net.Addr { return s.ln.Addr() }

func (s *stream) Close() error {
	s.mu.Lock()
	s.closed = true
	open := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // may have ended already
	}
	return s.ln.Close()
}

// Dial connects to the node named in address, which is "<node id>@<host:port>"
// as directory makes them: the certificate must be that very node's, so that a
// reused address never lets one member speak for another.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	node, addr, found := strings.Cut(string(address), "@")
	if !found {
		node, addr = "", string(address)
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	d := tls.Dialer{Config: s.src.ClientConfig(pki.RoleCoordinator, node, pki.ProtoRaft)}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot reach member %s at %s: %w", node, addr, err)
	}
	return s.count(conn)
}

// directory tells raft's transport where a member is now.
type directory struct {
	resolve func(nodeID string) (addr string, ok bool) // may be nil
	raft    atomic.Pointer[raft.Raft]                  // set after the transport is in use
}

// ServerAddr prefers what resolve knows to the address in raft's own
// configuration, which is that of the day the member joined.
func (d *directory) ServerAddr(node raft.ServerID) (raft.ServerAddress, error) {
	if d.resolve != nil {
		if addr, ok := d.resolve(string(node)); ok {
			return qualified(node, addr), nil
		}
	}
	if r := d.raft.Load(); r != nil {
		f := r.GetConfiguration()
		if err := f.Error(); err != nil {
			return "", fmt.Errorf("cannot read the members: %w", err)
		}
		for _, s := range f.Configuration().Servers {
			if s.ID == node {
				return qualified(node, string(s.Address)), nil
			}
		}
	}
	return "", fmt.Errorf("member %s is not known", node)
}

func qualified(node raft.ServerID, addr string) raft.ServerAddress {
	return raft.ServerAddress(string(node) + "@" + addr)
}

func newTransport(ctx context.Context, cfg Config, dir *directory) *raft.NetworkTransport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider: dir,
		Stream:                newStream(ctx, cfg.Listener, cfg.TLS),
		Logger:                newRaftLog(cfg.Log, "raft-net"),
		MaxPool:               transportPool,
		Timeout:               transportTimeout,
	})
}
