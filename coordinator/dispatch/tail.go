package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/id"
	"github.com/slipway-ci/slipway/shared/logpath"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// tailGrace is how much longer than its wait an agent may take to answer.
const tailGrace = 5 * time.Second

// tailTable is the requests for live log records that agents have not answered.
type tailTable struct {
	mu      sync.Mutex
	pending map[string]*pendingTail
}

type pendingTail struct {
	stream *stream
	got    chan *pb.TailRequest // buffered; nil when the agent is gone
}

func newTailTable() *tailTable { return &tailTable{pending: map[string]*pendingTail{}} }

// Tail reads records of a live attempt's log from its agent: at most limit from
// record number from on, waiting for the first at most wait. End means that the
// log is over. It is ci.Unavailable when the agent is not connected here or
// does not answer in time.
func (s *Service) Tail(ctx context.Context, attempt ci.AttemptID, from int64, limit int, wait time.Duration) ([]logpath.Record, int64, bool, error) {
	st := s.hub.of(attempt)
	if st == nil {
		return nil, 0, false, ci.Errorf(ci.Unavailable, "no agent that is connected here runs attempt %s", attempt)
	}
	name, p := s.tails.add(st)
	defer s.tails.remove(name)
	st.order(&pb.TailOrder{Id: name, Attempt: string(attempt), From: from, Limit: int32(limit), WaitSeconds: wait.Seconds()})
	late := time.NewTimer(wait + tailGrace)
	defer late.Stop()
	select {
	case <-ctx.Done():
		return nil, 0, false, ci.Errorf(ci.Canceled, "stopped waiting for the log of attempt %s: %w", attempt, ctx.Err())
	case <-st.over:
		return nil, 0, false, ci.Errorf(ci.Unavailable, "the agent of attempt %s went away", attempt)
	case <-late.C:
		return nil, 0, false, ci.Errorf(ci.Unavailable, "the agent of attempt %s does not answer", attempt)
	case m := <-p.got:
		if m == nil {
			return nil, 0, false, ci.Errorf(ci.Unavailable, "the agent of attempt %s went away", attempt)
		}
		if m.GetProblem() != "" {
			return nil, 0, false, ci.Errorf(ci.Unavailable, "the agent cannot read the log of attempt %s: %s", attempt, m.GetProblem())
		}
		return records(m.GetRecords()), m.GetNext(), m.GetEnd(), nil
	}
}

// calls is AgentService; Service itself has a Tail for this side.
type calls struct{ *Service }

// Tail takes an agent's answer. One that nobody waits for any more is dropped.
func (t calls) Tail(ctx context.Context, req *pb.TailRequest) (*pb.TailResponse, error) {
	who, err := t.caller(ctx)
	if err != nil {
		return nil, err
	}
	if p := t.tails.find(req.GetId()); p != nil && p.stream.agent == who {
		select {
		case p.got <- req:
		default: // answered already
		}
	}
	return &pb.TailResponse{}, nil
}

func (t *tailTable) add(st *stream) (string, *pendingTail) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, p := id.New(), &pendingTail{stream: st, got: make(chan *pb.TailRequest, 1)}
	t.pending[name] = p
	return name, p
}

func (t *tailTable) find(name string) *pendingTail {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending[name]
}

func (t *tailTable) remove(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pending, name)
}

// drop answers what a stream that ends leaves behind.
func (t *tailTable) drop(st *stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pending {
		if p.stream == st {
			select {
			case p.got <- nil:
			default:
			}
		}
	}
}

var streams = map[string]logpath.Stream{
	logpath.Stdout.String(): logpath.Stdout,
	logpath.Stderr.String(): logpath.Stderr,
	logpath.System.String(): logpath.System,
}

func records(in []*pb.LogRecord) []logpath.Record {
	out := make([]logpath.Record, 0, len(in))
	for _, m := range in {
		r := logpath.Record{Stream: streams[m.GetStream()], Data: m.GetData(), Partial: m.GetPartial()}
		if m.GetAt() != nil {
			r.Time = m.GetAt().AsTime()
		}
		out = append(out, r)
	}
	return out
}
