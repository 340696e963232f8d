package ci

import "time"

// Tenant is one service, owned by its team.
type Tenant struct {
	ID        TenantID
	Grants    []string
	MaxQueued int // steps that may wait at once; 0 is the cluster's default
	CreatedAt time.Time
}

// DefaultMaxQueued bounds the waiting steps of a tenant without a quota.
const DefaultMaxQueued = 100_000

// Granted reports whether the tenant holds the grant.
func (t *Tenant) Granted(grant string) bool {
	for _, g := range t.Grants {
		if g == grant {
			return true
		}
	}
	return false
}

// Role says what a principal may do.
type Role string

// The roles, each with all rights of the one before.
const (
	RoleViewer Role = "viewer"
	RoleMember Role = "member"
	RoleAdmin  Role = "admin"
)

// Token is an API token; only its hash is kept.
type Token struct {
	ID        TokenID
	Hash      string // hex sha256 of the secret
	User      string
	Role      Role
	Tenant    TenantID // empty is every tenant
	CreatedAt time.Time
}

// ActorKind says what sort of principal acts.
type ActorKind string

// The actor kinds. Only changes by a user, a token or a webhook are audited.
const (
	ActorUser   ActorKind = "user"
	ActorToken  ActorKind = "token"
	ActorAgent  ActorKind = "agent"
	ActorSystem ActorKind = "system"
)

// Actor is who does something.
type Actor struct {
	Kind ActorKind
	Name string
}

// System is the actor of the cluster's own decisions.
var System = Actor{Kind: ActorSystem, Name: "slipway"}

// Person reports whether the actor's changes belong in the audit.
func (a Actor) Person() bool { return a.Kind == ActorUser || a.Kind == ActorToken }

// String renders the actor as kind:name.
func (a Actor) String() string { return string(a.Kind) + ":" + a.Name }

// AuditEntry is one change by a person or a token.
type AuditEntry struct {
	Index  uint64 // of the log entry
	At     time.Time
	Actor  Actor
	Action string // run.create, step.skip, ...
	Tenant TenantID
	Run    RunID
	Step   string
	SHA    string
	Reason string
	Before string
	After  string
}
