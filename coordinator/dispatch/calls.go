package dispatch

import (
	"context"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// Register opens a session.
func (s *Service) Register(ctx context.Context, req *pb.RegisterRequest) (*pb.RegisterResponse, error) {
	id, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	cluster := s.cfg.Store.View().Cluster().ID
	if req.GetCluster() != cluster {
		return nil, ci.FieldErrorf(ci.Invalid, "cluster", "agent %s wants to join cluster %q, but this is %q: correct its configuration, or its data folder is another cluster's", id, req.GetCluster(), cluster)
	}
	a := wire.RegisteredAgent(req)
	a.ID = id
	if a.Name == "" || a.BootID == "" || a.Slots < 1 {
		return nil, ci.Errorf(ci.Invalid, "cannot register agent %s: it needs a name, a boot id and at least one slot", id)
	}
	if err := s.propose(ctx, agentActor(&a), &state.RegisterAgent{Agent: a}); err != nil {
		return nil, err
	}
	s.heard.mark(id)
	got := s.cfg.Store.View().Agent(id)
	if got == nil {
		return nil, ci.Errorf(ci.Unavailable, "agent %s was registered but is not here yet: try again", id)
	}
	s.cfg.Log.InfoContext(ctx, "agent registered", "agent", id, "name", got.Name, "session", got.Incarnation)
	return &pb.RegisterResponse{
		AgentId: string(id), Incarnation: got.Incarnation, Cluster: cluster,
		Store:            &pb.StoreInfo{Root: s.cfg.Root},
		HeartbeatSeconds: s.cfg.Heartbeat.Seconds(),
	}, nil
}

// Accept commits that the agent takes an attempt.
func (s *Service) Accept(ctx context.Context, req *pb.AcceptRequest) (*pb.AcceptResponse, error) {
	a, v, err := s.session(ctx, req.GetIncarnation())
	if err != nil {
		return nil, err
	}
	ref, ok := live(v, a.ID, ci.AttemptID(req.GetAttempt()))
	if !ok {
		return &pb.AcceptResponse{Run: false}, nil
	}
	err = s.propose(ctx, agentActor(a), &state.AcceptAttempt{
		Run: ref.Run, Step: ref.Step, Attempt: ref.Attempt,
		Fence: req.GetFence(), Agent: a.ID, Incarnation: a.Incarnation,
	})
	if err := s.standing(a, err); err != nil {
		return nil, err
	}
	if err != nil {
		return &pb.AcceptResponse{Run: false}, nil
	}
	if _, at := find(s.cfg.Store.View(), ref); at != nil {
		return &pb.AcceptResponse{Run: at.Live() && at.Want == ci.WantRun, Want: at.Want.String()}, nil
	}
	return &pb.AcceptResponse{Run: false}, nil
}

// Report commits news of an attempt. A late one is no error: the agent has done
// its part and cleans up.
func (s *Service) Report(ctx context.Context, req *pb.ReportRequest) (*pb.ReportResponse, error) {
	a, v, err := s.session(ctx, req.GetIncarnation())
	if err != nil {
		return nil, err
	}
	r, err := wire.ReportFrom(req)
	if err != nil {
		return nil, err
	}
	ref, ok := live(v, a.ID, r.Attempt)
	if !ok {
		ref, ok = ended(v, a.ID, r.Attempt)
	}
	if !ok {
		return &pb.ReportResponse{Accepted: false}, nil
	}
	outcome := r.Outcome
	if r.Phase == wire.PhaseRejected {
		outcome = ci.AttemptRejected
	}
	err = s.propose(ctx, agentActor(a), &state.ReportAttempt{
		Run: ref.Run, Step: ref.Step, Attempt: ref.Attempt,
		Fence: r.Fence, Agent: a.ID, Incarnation: a.Incarnation,
		Phase: r.Phase, Outcome: outcome, Reason: r.Reason, Message: r.Message,
		Exited: r.Exited, ExitCode: r.ExitCode, Outputs: r.Outputs,
		Log: r.Log, Artifacts: r.Artifacts,
		StartedAt: r.StartedAt, FinishedAt: r.FinishedAt, ImageDigest: r.ImageDigest,
	})
	if err := s.standing(a, err); err != nil {
		return nil, err
	}
	if err != nil {
		s.cfg.Log.InfoContext(ctx, "refused a late report", "attempt", r.Attempt, "agent", a.ID, "phase", r.Phase, "why", err)
	}
	return &pb.ReportResponse{Accepted: err == nil}, nil
}

// standing returns nil for a yes and for a no that stands, and else the error
// that the agent has to see: a failure that may pass, or that its session ended
// while the call was on its way, in which case the next session says it again.
func (s *Service) standing(a *ci.Agent, err error) error {
	if k := ci.KindOf(err); err == nil || k != ci.Conflict && k != ci.NotFound {
		return err
	}
	_, over := current(s.cfg.Store.View(), a.ID, a.Incarnation)
	return over
}

// live finds an attempt among those that the agent holds.
func live(v *state.View, agent ci.AgentID, id ci.AttemptID) (state.AttemptRef, bool) {
	for _, ref := range v.AttemptsOf(agent) {
		if ref.Attempt == id {
			return ref, true
		}
	}
	return state.AttemptRef{}, false
}

// maxSearch bounds the search for an attempt that is over, in runs.
const maxSearch = 10_000

// ended finds an attempt of the agent that is over already: a report whose
// answer was lost is sent again. Ids are ordered by time and a run is made
// before its attempts, so the run is found a few steps back.
func ended(v *state.View, agent ci.AgentID, id ci.AttemptID) (ref state.AttemptRef, ok bool) {
	left := maxSearch
	v.RunsDesc(ci.RunID(id), func(r *ci.Run) bool {
		for _, st := range r.Steps {
			if at := st.Attempt(id); at != nil && at.Agent == agent {
				ref, ok = state.AttemptRef{Run: r.ID, Step: st.ID, Attempt: id}, true
			}
		}
		left--
		return !ok && left > 0
	})
	return ref, ok
}

func find(v *state.View, ref state.AttemptRef) (*ci.Run, *ci.Attempt) {
	r := v.Run(ref.Run)
	if r == nil || r.Step(ref.Step) == nil {
		return nil, nil
	}
	return r, r.Step(ref.Step).Attempt(ref.Attempt)
}
