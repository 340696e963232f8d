package consensus

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/pki"
)

const (
	handshakeWithin = 10 * time.Second
	// handshakesAtOnce bounds what strangers can make the port do.
	handshakesAtOnce = 256
	acceptBackoff    = 100 * time.Millisecond
)

// Mux is the node port: one listener whose connections are told apart by the
// protocol negotiated in the TLS handshake. Who may speak which is checked
// there too, so both listeners only ever see peers that may.
//
//	TCP -> TLS 1.3, client certificate -+- slipway-raft/1 -> Raft()
//	                                    +- h2 -------------> HTTP()
type Mux struct {
	ln   net.Listener
	tls  *tls.Config
	log  *slog.Logger
	raft *branch
	http *branch
}

// NewMux takes ln over. Nothing is accepted before Run.
func NewMux(ln net.Listener, src *pki.Source, log *slog.Logger) *Mux {
	return &Mux{
		ln: ln, tls: src.ServerConfig(pki.NodeRules()...), log: log,
		raft: newBranch(ln.Addr()), http: newBranch(ln.Addr()),
	}
}

// Addr returns the address of the node port.
func (m *Mux) Addr() net.Addr { return m.ln.Addr() }

// Raft returns the listener of the members' raft connections.
func (m *Mux) Raft() net.Listener { return m.raft }

// HTTP returns the listener for an http.Server: its connections are *tls.Conn
// that have agreed on h2.
func (m *Mux) HTTP() net.Listener { return m.http }

// Run accepts connections until ctx ends, and closes the listeners.
func (m *Mux) Run(ctx context.Context) error {
	tasks := lifecycle.NewTasks(ctx)
	stop := context.AfterFunc(ctx, func() { _ = m.ln.Close() })
	defer stop()
	slots := make(chan struct{}, handshakesAtOnce)
	var failed error
	for failed == nil && ctx.Err() == nil {
		conn, err := m.ln.Accept()
		if err != nil {
			failed = m.acceptFailed(ctx, err)
			continue
		}
		slots <- struct{}{}
		started := tasks.Go("handshake", func(ctx context.Context) {
			defer func() { <-slots }()
			m.serve(ctx, conn)
		})
		if !started {
			_ = conn.Close()
		}
	}
	_, _, _ = m.raft.Close(), m.http.Close(), m.ln.Close()
	if ctx.Err() != nil {
		failed = nil
	}
	return errors.Join(failed, tasks.Stop())
}

// acceptFailed waits a little where it may pass (no file descriptors left) and
// returns the error where it will not.
func (m *Mux) acceptFailed(ctx context.Context, err error) error {
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	m.log.Warn("node port: cannot accept a connection", "err", err)
	timer := time.NewTimer(acceptBackoff)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

func (m *Mux) serve(ctx context.Context, raw net.Conn) {
	conn := tls.Server(raw, m.tls)
	within, cancel := context.WithTimeout(ctx, handshakeWithin)
	defer cancel()
	if err := conn.HandshakeContext(within); err != nil {
		m.log.Info("node port: connection refused", "from", raw.RemoteAddr().String(), "err", err)
		_ = raw.Close()
		return
	}
	if conn.ConnectionState().NegotiatedProtocol == pki.ProtoRaft {
		m.raft.deliver(ctx, conn)
	} else {
		m.http.deliver(ctx, conn)
	}
}

// branch is the net.Listener of one protocol.
type branch struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newBranch(addr net.Addr) *branch {
	return &branch{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (b *branch) deliver(ctx context.Context, conn net.Conn) {
	select {
	case b.conns <- conn:
	case <-b.closed:
		_ = conn.Close()
	case <-ctx.Done():
		_ = conn.Close()
	}
}

func (b *branch) Accept() (net.Conn, error) {
	select {
	case c := <-b.conns:
		return c, nil
	case <-b.closed:
		return nil, net.ErrClosed
	}
}

func (b *branch) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

func (b *branch) Addr() net.Addr { return b.addr }
