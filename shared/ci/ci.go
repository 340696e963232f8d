// Package ci is the vocabulary of Slipway: the nouns that every other package
// speaks, their states, and the rules by which a state may follow another. It
// is pure: nothing here reads a clock, draws a random number or does I/O.
package ci

import "time"

// Identifiers are lower-case ULIDs made by whoever proposes the object; they
// enter the replicated state only inside commands.
type (
	// TenantID names a tenant. It is the tenant's name itself ([a-z0-9-]).
	TenantID string
	// RunID identifies one run of a workflow.
	RunID string
	// AttemptID identifies one try of a step on one agent.
	AttemptID string
	// AgentID identifies an agent; it lives on the agent's disk, never in an address.
	AgentID string
	// TokenID identifies an API token; the secret itself is never stored.
	TokenID string
)

// DefaultTenant is the tenant that a fresh cluster has.
const DefaultTenant TenantID = "default"

// ClusterTime is the cluster's own clock: a duration kept in the replicated
// state and advanced only by the leader's monotonic clock. It stands still
// without a leader. Deadlines, backoff and queue timeouts use it; wall time is
// for people.
type ClusterTime time.Duration

// Add returns the time d later.
func (t ClusterTime) Add(d time.Duration) ClusterTime { return t + ClusterTime(d) }

// Sub returns the duration from u to t.
func (t ClusterTime) Sub(u ClusterTime) time.Duration { return time.Duration(t - u) }

// String renders the time as a Go duration.
func (t ClusterTime) String() string { return time.Duration(t).String() }
