package ci

import "time"

// WaitCode says in one word why a step does not run yet.
type WaitCode string

// The codes.
const (
	WaitNoAgent     WaitCode = "no_agent_matches"
	WaitAgentsFull  WaitCode = "agents_full"
	WaitTenantQuota WaitCode = "tenant_quota"
	WaitDraining    WaitCode = "all_matching_agents_draining"
	WaitFairShare   WaitCode = "fair_share"
	WaitFor         WaitCode = "waiting_for" // other steps
	WaitBackoff     WaitCode = "backoff"     // an automatic retry's pause
	WaitNoQuorum    WaitCode = "no_quorum"   // nobody leads, so nobody decides
)

// WaitReason says why a step does not run yet. It is computed by the leader
// and never replicated.
type WaitReason struct {
	Code    WaitCode
	Message string    // a sentence for people
	Detail  string    // the figures or names behind it
	Since   time.Time // wall; zero when not known
}
