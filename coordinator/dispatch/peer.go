package dispatch

import (
	"context"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/pki"
)

type peerKey struct{}

type peer struct {
	who pki.Identity
	err error
}

func withPeer(ctx context.Context, who pki.Identity, err error) context.Context {
	return context.WithValue(ctx, peerKey{}, peer{who, err})
}

// caller returns the agent whose certificate the call came with. What a message
// says of its sender is never believed.
func (s *Service) caller(ctx context.Context) (ci.AgentID, error) {
	p, ok := ctx.Value(peerKey{}).(peer)
	switch {
	case !ok:
		return "", ci.Errorf(ci.Unauthenticated, "the call did not come over the node port")
	case p.err != nil:
		return "", p.err
	case p.who.Role != pki.RoleAgent:
		return "", ci.Errorf(ci.Forbidden, "%s is no agent", p.who)
	}
	if s.cfg.Ready != nil {
		if err := s.cfg.Ready(); err != nil {
			return "", err
		}
	}
	if id := s.cfg.Store.View().Cluster().ID; p.who.Cluster != id {
		return "", ci.Errorf(ci.Forbidden, "%s is of another cluster than %s", p.who, id)
	}
	return ci.AgentID(p.who.NodeID), nil
}

// FieldIncarnation is the field of the error that ends a session: the agent has
// to register again, unless another process did so in its name.
const FieldIncarnation = "incarnation"

// current refuses calls of a session that a later registration has replaced.
func current(v *state.View, id ci.AgentID, incarnation uint64) (*ci.Agent, error) {
	a := v.Agent(id)
	if a == nil {
		return nil, ci.FieldErrorf(ci.Conflict, FieldIncarnation, "agent %s is not registered here", id)
	}
	if a.Incarnation != incarnation {
		return nil, ci.FieldErrorf(ci.Conflict, FieldIncarnation,
			"session %d of agent %s (%s) is over: session %d was opened after it", incarnation, id, a.Name, a.Incarnation)
	}
	return a, nil
}

// session is both checks of an ordinary call.
func (s *Service) session(ctx context.Context, incarnation uint64) (*ci.Agent, *state.View, error) {
	id, err := s.caller(ctx)
	if err != nil {
		return nil, nil, err
	}
	v := s.cfg.Store.View()
	a, err := current(v, id, incarnation)
	return a, v, err
}

func agentActor(a *ci.Agent) ci.Actor { return ci.Actor{Kind: ci.ActorAgent, Name: a.Name} }
