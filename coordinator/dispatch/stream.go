package dispatch

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// held is what an agent was told of an attempt; all else of it never changes.
type held struct {
	fence  uint64
	want   ci.Want
	reason ci.Reason
}

// Assignments streams what the agent has to run: the whole set first, then what
// changes.
func (s *Service) Assignments(ctx context.Context, req *pb.AssignmentsRequest, out *connect.ServerStream[pb.AssignmentsResponse]) error {
	a, _, err := s.session(ctx, req.GetIncarnation())
	if err != nil {
		return err
	}
	st, err := s.hub.open(a.ID)
	if err != nil {
		return err
	}
	defer s.hub.close(st)
	defer s.tails.drop(st)
	// An agent that has seen more than this node has applied would take its
	// older set for news and stop what runs.
	if err := s.catchUp(ctx, st, req.GetSeen()); err != nil {
		return err
	}
	for full := true; ; full = false {
		v := s.cfg.Store.View()
		if _, err := current(v, a.ID, req.GetIncarnation()); err != nil {
			return err
		}
		msg := s.message(ctx, v, st, full)
		if full || len(msg.GetAssignments())+len(msg.GetRemoved())+len(msg.GetTails()) > 0 {
			if err := out.Send(msg); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-st.over:
			return ci.Errorf(ci.Unavailable, "the stream ended: the coordinator stops, or the agent opened another")
		case <-st.woken:
		}
	}
}

// catchUp waits until this node has applied what the agent has seen.
func (s *Service) catchUp(ctx context.Context, st *stream, seen *pb.SetIndex) error {
	// Entries that change nothing wake no watcher, so the clock does too.
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for !reached(s.cfg.Store.View(), seen) {
		select {
		case <-ctx.Done():
			return nil
		case <-st.over:
			return ci.Errorf(ci.Unavailable, "this coordinator is behind what the agent has seen")
		case <-look.C:
		}
	}
	return nil
}

func reached(v *state.View, seen *pb.SetIndex) bool {
	epoch := v.Cluster().Epoch
	return epoch > seen.GetEpoch() || epoch == seen.GetEpoch() && v.Index() >= seen.GetApplied()
}

// message is the difference between what the agent was told and what is so now.
func (s *Service) message(ctx context.Context, v *state.View, st *stream, full bool) *pb.AssignmentsResponse {
	msg := &pb.AssignmentsResponse{
		Index: &pb.SetIndex{Epoch: v.Cluster().Epoch, Applied: v.Index()},
		Full:  full,
		Tails: st.takeOrders(),
	}
	now := map[ci.AttemptID]held{}
	for _, ref := range v.AttemptsOf(st.agent) {
		r := v.Run(ref.Run)
		at := r.Step(ref.Step).Attempt(ref.Attempt)
		h := held{at.Fence, at.Want, at.WantReason}
		if was, ok := st.holds[ref.Attempt]; ok && was == h {
			now[ref.Attempt] = h
			continue
		}
		as, err := assignment(v, s.cfg.Root, r, ref.Step, at)
		if err != nil {
			s.reject(ctx, ref, at, err)
			continue
		}
		now[ref.Attempt] = h
		msg.Assignments = append(msg.Assignments, as)
	}
	for id := range st.holds {
		if _, still := now[id]; !still {
			msg.Removed = append(msg.Removed, string(id))
		}
	}
	st.mu.Lock()
	st.holds = now
	st.mu.Unlock()
	return msg
}

// reject ends an attempt that cannot be described to its agent. The step was
// rendered once before it was queued, so this is rare; but nobody else would
// ever end it.
func (s *Service) reject(ctx context.Context, ref state.AttemptRef, at *ci.Attempt, cause error) {
	err := s.propose(ctx, ci.System, &state.ReportAttempt{
		Run: ref.Run, Step: ref.Step, Attempt: ref.Attempt, Fence: at.Fence, Agent: at.Agent,
		Phase: wire.PhaseRejected, Outcome: ci.AttemptRejected,
		Reason: ci.ReasonExpression, Message: cause.Error(),
	})
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "cannot reject an attempt that cannot be assigned", "attempt", ref.Attempt, "cause", cause, "error", err)
	}
}
