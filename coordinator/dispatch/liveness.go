package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
)

// heardTable is when each agent was last heard here, by the monotonic clock.
type heardTable struct {
	mu sync.Mutex
	at map[ci.AgentID]time.Time
}

func newHeardTable() *heardTable { return &heardTable{at: map[ci.AgentID]time.Time{}} }

func (h *heardTable) mark(id ci.AgentID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at[id] = time.Now()
}

func (h *heardTable) last(id ci.AgentID) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at[id]
}

// Liveness runs while this node leads. It flags agents that were not heard for
// SuspectAfter, and takes the flag away from those that are heard again:
//
//	ready --no heartbeat for SuspectAfter--> silent --heartbeat--> ready
//
// It never declares anything lost: that is the engine's, after lost_after. A
// fresh leader has heard nobody, so its term counts as a heartbeat of everyone.
func (s *Service) Liveness(ctx context.Context) error {
	term := time.Now()
	saved := term
	tick := time.NewTicker(min(time.Second, s.cfg.SuspectAfter/10))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		for _, op := range s.judge(term, now) {
			s.try(ctx, op)
		}
		if now.Sub(saved) >= s.cfg.Checkpoint {
			if seen := s.heardSince(saved); len(seen) > 0 {
				s.try(ctx, &state.CheckpointAgents{Seen: seen})
			}
			saved = now
		}
	}
}

// judge compares what was heard with what the state says.
func (s *Service) judge(term, now time.Time) (ops []state.Op) {
	for _, a := range s.cfg.Store.View().Agents() {
		if a.State == ci.AgentGone {
			continue
		}
		heard := s.heard.last(a.ID)
		switch silent := a.State == ci.AgentSilent; {
		case silent && !heard.IsZero() && now.Sub(heard) < s.cfg.SuspectAfter:
			ops = append(ops, &state.AgentHeard{ID: a.ID})
		case !silent && now.Sub(heard) >= s.cfg.SuspectAfter && now.Sub(term) >= s.cfg.SuspectAfter:
			ops = append(ops, &state.AgentSilent{ID: a.ID})
		}
	}
	return ops
}

func (s *Service) heardSince(t time.Time) (seen []state.AgentSeen) {
	for _, a := range s.cfg.Store.View().Agents() {
		if at := s.heard.last(a.ID); at.After(t) {
			seen = append(seen, state.AgentSeen{ID: a.ID, Wall: at.UTC().Round(0)})
		}
	}
	return seen
}

// try proposes; what fails is judged again at the next tick.
func (s *Service) try(ctx context.Context, op state.Op) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := s.propose(ctx, ci.System, op); err != nil && ctx.Err() == nil {
		s.cfg.Log.WarnContext(ctx, "cannot record who is alive", "op", op.Name(), "error", err)
	}
}
