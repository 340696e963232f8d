package dispatch

import (
	"context"
	"time"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// commitTimeout bounds how long one batch may hold up the next. An agent counts
// from when it sent, so a late yes is worth less than an early no.
const commitTimeout = 5 * time.Second

// beat is a heartbeat that waits for its batch.
type beat struct {
	agent ci.AgentID
	items []state.ProgressItem
	done  chan error // buffered
}

// Heartbeat answers once a quorum has confirmed the leader: an agent that is
// acknowledged may count on not being declared lost meanwhile.
func (s *Service) Heartbeat(ctx context.Context, req *pb.HeartbeatRequest) (*pb.HeartbeatResponse, error) {
	id, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	v := s.cfg.Store.View()
	a, err := current(v, id, req.GetIncarnation())
	if err != nil {
		return &pb.HeartbeatResponse{Known: false}, nil //nolint:nilerr // the answer says it
	}
	b := &beat{agent: id, items: s.news(v, a, req.GetAttempts()), done: make(chan error, 1)}
	select {
	case s.beats <- b:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case err := <-b.done:
		if err != nil {
			return nil, err
		}
		return &pb.HeartbeatResponse{Known: true}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// news keeps what the state does not know yet, so that an idle fleet writes
// nothing.
func (s *Service) news(v *state.View, a *ci.Agent, sent []*pb.AttemptProgress) []state.ProgressItem {
	if len(sent) == 0 {
		return nil
	}
	refs := map[ci.AttemptID]state.AttemptRef{}
	for _, ref := range v.AttemptsOf(a.ID) {
		refs[ref.Attempt] = ref
	}
	var out []state.ProgressItem
	for _, m := range sent {
		p, err := wire.ProgressFrom(m)
		if err != nil {
			s.cfg.Log.Warn("dropped odd progress", "agent", a.ID, "error", err)
			continue
		}
		ref, ok := refs[p.Attempt]
		if !ok {
			continue // over, or another's
		}
		_, at := find(v, ref)
		if at.Fence != p.Fence || at.State < ci.AttemptAccepted || same(at, p) {
			continue
		}
		out = append(out, state.ProgressItem{
			Run: ref.Run, Step: ref.Step, Attempt: ref.Attempt,
			Fence: p.Fence, Agent: a.ID, Incarnation: a.Incarnation,
			State: p.State, StartedAt: p.StartedAt, Progress: p.Progress, Note: p.Note, ImageDigest: p.ImageDigest,
		})
	}
	return out
}

// same mirrors what the state makes of progress: it only ever grows.
func same(at *ci.Attempt, p *wire.Progress) bool {
	return at.State >= p.State && at.Progress >= p.Progress &&
		(p.Note == "" || at.Note == p.Note) &&
		(p.ImageDigest == "" || at.ImageDigest != "") &&
		(p.StartedAt.IsZero() || !at.StartedAt.IsZero())
}

// answerBeats takes heartbeats in batches, one after the other:
//
//	first arrives -> (pause since the last batch over?) -> all that wait -> commit or verify -> answer
func (s *Service) answerBeats(ctx context.Context) error {
	// Once a second at most, or a third of the heartbeat where that is shorter.
	pause := min(time.Second, s.cfg.Heartbeat/3)
	next := time.Now()
	for {
		var batch []*beat
		select {
		case <-ctx.Done():
			return nil
		case b := <-s.beats:
			batch = append(batch, b)
		}
		select {
		case <-ctx.Done():
			answer(batch, ci.Errorf(ci.Unavailable, "this coordinator is stopping"))
			return nil
		case <-time.After(time.Until(next)):
		}
		for more := true; more; {
			select {
			case b := <-s.beats:
				batch = append(batch, b)
			default:
				more = false
			}
		}
		next = time.Now().Add(pause)
		err := s.confirm(ctx, batch)
		if err == nil {
			for _, b := range batch {
				s.heard.mark(b.agent)
			}
		}
		answer(batch, err)
	}
}

// confirm returns nil when a quorum stood behind the leader after the batch had
// arrived: a committed entry proves that as well as asking does.
func (s *Service) confirm(ctx context.Context, batch []*beat) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	var items []state.ProgressItem
	for _, b := range batch {
		items = append(items, b.items...)
	}
	if len(items) == 0 {
		return s.cfg.Verify(ctx)
	}
	return s.propose(ctx, ci.System, &state.Progress{Items: items})
}

func answer(batch []*beat, err error) {
	for _, b := range batch {
		b.done <- err
	}
}
