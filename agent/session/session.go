// Package session is an agent's line to the coordinators: it finds one,
// registers, takes assignments, sends heartbeats and answers requests for live
// log records. When the line breaks it looks for another, for ever.
package session

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// Index is the age of a set of assignments.
type Index struct{ Epoch, Applied uint64 }

// Work is what the assignments go to and progress comes from.
type Work interface {
	// Set takes the full set or a delta; it must not block.
	Set(at Index, full bool, assigned []wire.Assignment, removed []ci.AttemptID)
	// Seen returns the highest index taken.
	Seen() Index
	// Progress returns what heartbeats carry.
	Progress() []wire.Progress
}

// Tailer reads live log records: at most limit from record number from on,
// waiting for the first at most wait.
type Tailer interface {
	Tail(ctx context.Context, attempt ci.AttemptID, from int64, limit int, wait time.Duration) (records []logpath.Record, next int64, end bool, err error)
}

// Config is what a Session needs.
type Config struct {
	Agent   ci.Agent // name, boot id, version, queues, tags, capacity, slots, executors
	Cluster string   // its id
	// Coordinators returns the node addresses that are believed to be alive.
	Coordinators func() []string
	// Found is a channel that closes when Coordinators may have changed; nil
	// is allowed, the session then looks every second.
	Found func() <-chan struct{}
	// TLS returns the configuration for a dial to a coordinator.
	TLS  func() *tls.Config
	Work Work
	// News receives when Progress should not wait for the next heartbeat.
	News <-chan struct{}
	Tail Tailer
	// DiskFree returns the free part of the agent's disk, 0..1; nil is allowed.
	DiskFree func() float64
	Log      *slog.Logger
}

const (
	defaultHeartbeat = 3 * time.Second
	callTimeout      = 15 * time.Second
	// newsPause keeps a burst of changes from becoming as many heartbeats.
	newsPause = 50 * time.Millisecond
	// maxMisses is how many heartbeats may fail before another coordinator is tried.
	maxMisses = 3
	// More than maxTakeovers new registrations in takeoverSpan mean that two
	// agents have one identity and fight for it.
	maxTakeovers = 3
	takeoverSpan = 30 * time.Second
)

// Session is the line of one agent. It is safe for concurrent use.
type Session struct {
	cfg Config

	mu          sync.Mutex
	line        *line
	up          chan struct{} // closed while there is a line, replaced when it breaks
	incarnation uint64        // 0: to be registered
	root        string
	heartbeat   time.Duration
	lastAck     time.Time
	takeovers   []time.Time
	last        string // the coordinator that answered last
}

// New returns a session without a line; Run makes one.
func New(cfg Config) *Session {
	return &Session{cfg: cfg, up: make(chan struct{}), heartbeat: defaultHeartbeat}
}

// Root returns where the cluster's objects lie; empty before the first registration.
func (s *Session) Root() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.root
}

// LastAck returns when the last heartbeat was sent that was acknowledged,
// with the monotonic clock: from then on the agent counts when it has to stop
// work on its own. It is zero before the first.
func (s *Session) LastAck() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastAck
}

// Connected waits until the session has a line, or ctx ends.
func (s *Session) Connected(ctx context.Context) error {
	_, err := s.wait(ctx)
	return err
}

// Run keeps the line up until ctx ends. It fails only when another agent has
// this one's identity.
func (s *Session) Run(ctx context.Context) error {
	wait := newPauses()
	for ctx.Err() == nil {
		addr := s.pick()
		if addr == "" {
			s.look(ctx, time.Second)
			continue
		}
		began := time.Now()
		err := s.hold(ctx, addr)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errDouble):
			return err
		}
		if time.Since(began) > takeoverSpan {
			wait.Reset()
		}
		s.cfg.Log.Warn("no line to a coordinator; looking for one", "coordinator", addr, "error", err)
		s.look(ctx, wait.NextBackOff())
	}
	return nil
}

// pick returns a coordinator's address: another than the last one's where
// there is one, since that has just failed.
func (s *Session) pick() string {
	all := s.cfg.Coordinators()
	s.mu.Lock()
	defer s.mu.Unlock()
	others := make([]string, 0, len(all))
	for _, addr := range all {
		if addr != s.last {
			others = append(others, addr)
		}
	}
	if len(others) == 0 {
		others = all
	}
	if len(others) == 0 {
		return ""
	}
	s.last = others[rand.IntN(len(others))]
	return s.last
}

// look waits for d, or less when there may be other coordinators.
func (s *Session) look(ctx context.Context, d time.Duration) {
	var found <-chan struct{}
	if s.cfg.Found != nil {
		found = s.cfg.Found()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-found:
	case <-t.C:
	}
}

// hold makes a line and keeps it until something on it fails.
func (s *Session) hold(ctx context.Context, addr string) error {
	l := s.dial(addr)
	defer l.close()
	if err := s.register(ctx, l); err != nil {
		return err
	}
	l.tails = lifecycle.NewTasks(context.WithoutCancel(ctx)) // stopped by the group, in its turn
	s.set(l)
	defer s.set(nil)
	s.cfg.Log.Info("connected to a coordinator", "coordinator", addr, "session", l.incarnation)
	var g lifecycle.Group
	g.Add("tails", l.tails.Run)
	g.Add("heartbeat", func(ctx context.Context) error { return s.beat(ctx, l) })
	g.Add("assignments", func(ctx context.Context) error { return s.listen(ctx, l) })
	g.Add("fate", l.watch)
	return s.judge(g.Run(ctx))
}

// set makes l the line that calls use, or none.
func (s *Session) set(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line = l; l != nil {
		close(s.up)
	} else {
		s.up = make(chan struct{})
	}
}

// wait returns the line, as soon as there is one.
func (s *Session) wait(ctx context.Context) (*line, error) {
	for {
		s.mu.Lock()
		l, up := s.line, s.up
		s.mu.Unlock()
		if l != nil {
			return l, nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil, ci.Errorf(ci.Unavailable, "no coordinator answers: %w", context.Cause(ctx))
		}
	}
}

// register opens a session, unless this process has one that still stands.
func (s *Session) register(ctx context.Context, l *line) error {
	s.mu.Lock()
	l.incarnation = s.incarnation
	s.mu.Unlock()
	if l.incarnation != 0 {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := l.client.Register(short, wire.RegisterRequest(s.cfg.Cluster, &s.cfg.Agent))
	if err != nil {
		return ci.Errorf(ci.KindOf(err), "cannot register with %s: %w", l.addr, err)
	}
	l.incarnation = resp.GetIncarnation()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.incarnation, s.root = resp.GetIncarnation(), resp.GetStore().GetRoot()
	if d := time.Duration(resp.GetHeartbeatSeconds() * float64(time.Second)); d > 0 {
		s.heartbeat = d
	}
	return nil
}

var errDouble = ci.Errorf(ci.Conflict, "another agent has this one's identity: both registered in turn; stop one of them, or give it a data folder of its own")

// judge looks whether an error of a line says that the session is over.
func (s *Session) judge(err error) error {
	if !sessionOver(err) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.incarnation = 0
	now := time.Now()
	recent := s.takeovers[:0]
	for _, t := range s.takeovers {
		if now.Sub(t) < takeoverSpan {
			recent = append(recent, t)
		}
	}
	s.takeovers = append(recent, now)
	if len(s.takeovers) > maxTakeovers {
		return errDouble
	}
	return err
}

// fieldIncarnation is the field of the conflict that ends a session.
const fieldIncarnation = "incarnation"

func sessionOver(err error) bool {
	var e *ci.Error
	return errors.As(err, &e) && e.Kind == ci.Conflict && e.Field == fieldIncarnation
}

// index converts a wire index.
func index(m *pb.SetIndex) Index { return Index{m.GetEpoch(), m.GetApplied()} }
