package state

import (
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// InitCluster names a new cluster; later ones with the same id change nothing.
type InitCluster struct {
	ID   string
	Seed []byte
}

// Tick only advances cluster time, when nothing else does.
type Tick struct{}

// CreateTenant adds a tenant, or replaces the grants and quota of one.
type CreateTenant struct{ Tenant ci.Tenant }

// CreateToken adds an API token.
type CreateToken struct{ Token ci.Token }

// RevokeToken removes an API token.
type RevokeToken struct{ ID ci.TokenID }

// RegisterAgent opens an agent's session: it raises the incarnation, which the
// caller then reads from View.Agent. Another boot id than before makes the
// live attempts of the earlier boot lost.
type RegisterAgent struct{ Agent ci.Agent }

// CheckpointAgents records when agents were last heard. Unknown agents are
// dropped.
type CheckpointAgents struct{ Seen []AgentSeen }

// AgentSeen is the last heartbeat of an agent.
type AgentSeen struct {
	ID   ci.AgentID
	Wall time.Time
}

// AgentSilent flags an agent that stopped answering: it gets no new work.
type AgentSilent struct{ ID ci.AgentID }

// AgentHeard takes the flag of AgentSilent away.
type AgentHeard struct{ ID ci.AgentID }
