package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/cenkalti/backoff/v5"

	"github.com/slipway-ci/slipway/proto/slipway/v1/slipwayv1connect"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// maxMessage bounds what a coordinator may send at once, in bytes.
const maxMessage = 64 << 20

// line is one connection to one coordinator.
type line struct {
	addr        string
	incarnation uint64
	client      slipwayv1connect.AgentServiceClient
	tails       *lifecycle.Tasks
	close       func()
	broken      chan error // capacity 1: a call found that the session is over
}

// dial makes a line; nothing is sent yet.
func (s *Session) dial(addr string) *line {
	t := &http.Transport{
		TLSClientConfig:     s.cfg.TLS(),
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     time.Minute,
		// A coordinator that has vanished without a word is noticed by this.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
	}
	return &line{
		addr: addr,
		client: slipwayv1connect.NewAgentServiceClient(&http.Client{Transport: t}, "https://"+addr,
			connect.WithInterceptors(wire.ClientErrors()), connect.WithReadMaxBytes(maxMessage)),
		close:  t.CloseIdleConnections,
		broken: make(chan error, 1),
	}
}

// watch fails when a call on the line has found its session over.
func (l *line) watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-l.broken:
		return err
	}
}

// checked gives an error of a call the meaning that it has for an attempt: a
// session that is over says nothing of the attempt, and the next one asks again.
func (l *line) checked(err error) error {
	if !sessionOver(err) {
		return err
	}
	select {
	case l.broken <- err:
	default: // it is known
	}
	return ci.Errorf(ci.Unavailable, "the session was replaced: %w", err)
}

// listen takes assignments until the stream ends.
func (s *Session) listen(ctx context.Context, l *line) error {
	seen := s.cfg.Work.Seen()
	stream, err := l.client.Assignments(ctx, &pb.AssignmentsRequest{
		Incarnation: l.incarnation, Seen: &pb.SetIndex{Epoch: seen.Epoch, Applied: seen.Applied},
	})
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		s.take(l, stream.Msg())
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return ci.Errorf(ci.Unavailable, "coordinator %s has ended the stream", l.addr)
}

func (s *Session) take(l *line, m *pb.AssignmentsResponse) {
	var assigned []wire.Assignment
	for _, a := range m.GetAssignments() {
		got, err := wire.AssignmentFrom(a)
		if err != nil {
			// Not accepted, it goes to another agent.
			s.cfg.Log.Error("an assignment cannot be read", "error", err)
			continue
		}
		assigned = append(assigned, *got)
	}
	var removed []ci.AttemptID
	for _, id := range m.GetRemoved() {
		removed = append(removed, ci.AttemptID(id))
	}
	if m.GetFull() || len(assigned)+len(removed) > 0 {
		s.cfg.Work.Set(index(m.GetIndex()), m.GetFull(), assigned, removed)
	}
	for _, o := range m.GetTails() {
		l.tails.Go("tail", func(ctx context.Context) { s.tail(ctx, l, o) })
	}
}

// tail answers one request for live records.
func (s *Session) tail(ctx context.Context, l *line, o *pb.TailOrder) {
	wait := time.Duration(o.GetWaitSeconds() * float64(time.Second))
	records, next, end, err := s.cfg.Tail.Tail(ctx, ci.AttemptID(o.GetAttempt()), o.GetFrom(), int(o.GetLimit()), wait)
	answer := &pb.TailRequest{Id: o.GetId(), Attempt: o.GetAttempt(), Records: messages(records), Next: next, End: end}
	if err != nil {
		answer.Problem = err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := l.client.Tail(ctx, answer); err != nil {
		s.cfg.Log.Debug("nobody took live log records", "attempt", o.GetAttempt(), "error", err)
	}
}

func messages(records []logpath.Record) []*pb.LogRecord {
	out := make([]*pb.LogRecord, 0, len(records))
	for _, r := range records {
		out = append(out, &pb.LogRecord{At: timestamppb.New(r.Time), Stream: r.Stream.String(), Data: r.Data, Partial: r.Partial})
	}
	return out
}

// beat sends heartbeats until too many of them fail.
func (s *Session) beat(ctx context.Context, l *line) error {
	misses := 0
	for {
		sent := time.Now()
		err := s.beatOnce(ctx, l)
		switch {
		case ctx.Err() != nil:
			return nil
		case sessionOver(err):
			return err
		case err != nil:
			if misses++; misses == maxMisses {
				return fmt.Errorf("coordinator %s acknowledges no heartbeat: %w", l.addr, err)
			}
		default:
			misses = 0
			s.mu.Lock()
			s.lastAck = sent
			s.mu.Unlock()
		}
		s.mu.Lock()
		every := s.heartbeat
		s.mu.Unlock()
		// Agents that were cut off together must not come back in step.
		timer := time.NewTimer(time.Duration(float64(every) * (0.8 + 0.4*rand.Float64())))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.cfg.News:
			select { // a burst is told at once
			case <-time.After(newsPause):
			case <-ctx.Done():
			}
		}
		timer.Stop()
	}
}

func (s *Session) beatOnce(ctx context.Context, l *line) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req := &pb.HeartbeatRequest{Incarnation: l.incarnation}
	for _, p := range s.cfg.Work.Progress() {
		req.Attempts = append(req.Attempts, wire.ProgressMessage(&p))
	}
	if s.cfg.DiskFree != nil {
		req.DiskFree = s.cfg.DiskFree()
	}
	resp, err := l.client.Heartbeat(ctx, req)
	if err == nil && !resp.GetKnown() {
		return ci.FieldErrorf(ci.Conflict, fieldIncarnation, "coordinator %s knows another session of this agent", l.addr)
	}
	return err
}

// Accept commits that this agent takes the attempt. It waits for a coordinator.
func (s *Session) Accept(ctx context.Context, attempt ci.AttemptID, fence uint64) (run bool, want ci.Want, err error) {
	l, err := s.wait(ctx)
	if err != nil {
		return false, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := l.client.Accept(ctx, &pb.AcceptRequest{Incarnation: l.incarnation, Attempt: string(attempt), Fence: fence})
	if err != nil {
		return false, 0, l.checked(err)
	}
	want, ok := ci.ParseWant(resp.GetWant())
	if !ok && resp.GetRun() {
		return false, 0, ci.Errorf(ci.Internal, "coordinator %s wants %q of attempt %s, which this agent does not know", l.addr, resp.GetWant(), attempt)
	}
	return resp.GetRun(), want, nil
}

// Report commits news of an attempt. It waits for a coordinator. Accepted false
// means that another result stands.
func (s *Session) Report(ctx context.Context, r wire.Report) (accepted bool, err error) {
	l, err := s.wait(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := l.client.Report(ctx, wire.ReportMessage(l.incarnation, &r))
	if err != nil {
		return false, l.checked(err)
	}
	return resp.GetAccepted(), nil
}

func newPauses() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 50*time.Millisecond, 3*time.Second
	return b
}
