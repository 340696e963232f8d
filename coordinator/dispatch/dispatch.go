// Package dispatch is where agents meet a coordinator: it gives them their
// assignments, takes their news into the log, and notices who fell silent.
// DESIGN.md tells the protocol.
package dispatch

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/pki"
	"github.com/slipway-ci/slipway/shared/wire"
)

// maxMessage bounds what an agent may send at once: a page of a log is the
// largest, see TailOrder.
const maxMessage = 16 << 20

// Store is the replicated state as dispatch reads it.
type Store interface {
	View() *state.View
	Watch() *state.Watcher
}

// Config is what a Service needs. Durations that are zero get their defaults.
type Config struct {
	Store    Store
	Proposer state.Proposer
	// Verify returns nil when a quorum has confirmed, since the call, that this
	// node leads or is in touch with the one that does.
	Verify func(ctx context.Context) error
	// Ready returns why the state here cannot be judged by yet, or nil: while
	// half of a log is read, agents look unknown and their work gone. Optional.
	Ready func() error
	// Root is where the cluster's objects lie: s3://bucket/prefix/<cluster id>.
	Root string
	// Peer says who sent a request; nil reads the TLS connection.
	Peer func(*http.Request) (pki.Identity, error)

	Heartbeat    time.Duration // what agents are told; default 3 s
	SuspectAfter time.Duration // of silence; default 10 s
	Checkpoint   time.Duration // between records of who was heard; default 5 s
	Log          *slog.Logger
}

// Service serves AgentService. Its streams live while Run does.
type Service struct {
	cfg   Config
	hub   *hub
	tails *tailTable
	heard *heardTable
	beats chan *beat
}

var _ slipwayv1connect.AgentServiceHandler = calls{}

// New returns a service.
func New(cfg Config) *Service {
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, 3*time.Second)
	cfg.SuspectAfter = cmp.Or(cfg.SuspectAfter, 10*time.Second)
	cfg.Checkpoint = cmp.Or(cfg.Checkpoint, 5*time.Second)
	if cfg.Peer == nil {
		cfg.Peer = func(r *http.Request) (pki.Identity, error) { return pki.PeerIdentity(r.TLS) }
	}
	return &Service{
		cfg:   cfg,
		hub:   newHub(),
		tails: newTailTable(),
		heard: newHeardTable(),
		beats: make(chan *beat, 256),
	}
}

// Handler serves the agents' calls below its path.
func (s *Service) Handler() (path string, handler http.Handler) {
	opts := append(wire.HandlerOptions(s.cfg.Log), connect.WithReadMaxBytes(maxMessage))
	path, inner := slipwayv1connect.NewAgentServiceHandler(calls{s}, opts...)
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := s.cfg.Peer(r)
		inner.ServeHTTP(w, r.WithContext(withPeer(r.Context(), who, err)))
	})
}

// Run wakes streams and answers heartbeats until ctx ends; then it ends every
// stream, so that agents go to another coordinator at once.
func (s *Service) Run(ctx context.Context) error {
	defer s.hub.stop()
	var g lifecycle.Group
	g.Add("wake streams", s.watch)
	g.Add("answer heartbeats", s.answerBeats)
	return g.Run(ctx)
}

func (s *Service) watch(ctx context.Context) error {
	w := s.cfg.Store.Watch()
	defer w.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.C():
			s.hub.wake(w.Changed())
		}
	}
}

// propose puts an agent's or the system's op through the log.
func (s *Service) propose(ctx context.Context, actor ci.Actor, op state.Op) error {
	_, err := s.cfg.Proposer.Propose(ctx, state.Command{Actor: actor, Op: op})
	return err
}
