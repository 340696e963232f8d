package state

import (
	"github.com/slipway-ci/slipway/shared/ci"
)

// View is the whole state as it was after one entry. It is immutable and may
// be read by any number of goroutines for as long as they like; the rows it
// hands out must not be changed.
type View struct{ t tables }

// AttemptRef names an attempt.
type AttemptRef struct {
	Run     ci.RunID
	Step    string
	Attempt ci.AttemptID
}

// Load is what the attempts of an agent hold. Slots, cpu and memory are free
// again when an attempt's process has exited, before its upload is done.
type Load struct {
	Slots     int
	Resources ci.Resources
}

// Index returns the index of the last entry applied.
func (v *View) Index() uint64 { return v.t.meta.Index }

// Stamp returns the time of the last entry applied.
func (v *View) Stamp() Stamp { return v.t.meta.Stamp }

// Cluster returns the cluster's identity; its ID is empty before cluster.init.
func (v *View) Cluster() Cluster { return v.t.meta.Cluster }

// Fence returns the last fence that was given out.
func (v *View) Fence() uint64 { return v.t.meta.Fence }

// Quarantined returns how many entries panicked and were left out, and the
// indexes of the last hundred. Anything but zero is an alarm.
func (v *View) Quarantined() (n uint64, last []uint64) {
	return v.t.meta.QuarantineN, v.t.meta.Quarantined
}

// Run returns a run, or nil.
func (v *View) Run(id ci.RunID) *ci.Run {
	r, _ := v.t.runs.get(id)
	return r
}

// Runs returns how many runs there are.
func (v *View) Runs() int { return v.t.runs.len() }

// RunsDesc calls fn for each run from the newest to the oldest until it returns
// false; with a before, only for those older than it.
func (v *View) RunsDesc(before ci.RunID, fn func(*ci.Run) bool) {
	each := func(_ ci.RunID, r *ci.Run) bool { return fn(r) }
	if before == "" {
		v.t.runs.reverse(each)
		return
	}
	v.t.runs.descend(before, each)
}

// ActiveRuns calls fn for each run that is not over, or whose attempts are not,
// from the oldest, until it returns false.
func (v *View) ActiveRuns(fn func(*ci.Run) bool) {
	v.t.runs.indexes[runsActive].ascend("", func(id string) bool {
		return fn(v.Run(ci.RunID(id)))
	})
}

// maxFound bounds the answers of FindRun: more than one is ambiguous anyway.
const maxFound = 10

// FindRun returns the runs whose id begins or ends with part, at most ten. The
// exact id is the only answer to itself.
func (v *View) FindRun(part string) []ci.RunID {
	if part == "" {
		return nil
	}
	if v.Run(ci.RunID(part)) != nil {
		return []ci.RunID{ci.RunID(part)}
	}
	var out []ci.RunID
	v.t.runs.ascend(ci.RunID(part), func(id ci.RunID, _ *ci.Run) bool {
		if len(id) < len(part) || string(id[:len(part)]) != part || len(out) == maxFound {
			return false
		}
		out = append(out, id)
		return true
	})
	v.t.runs.indexes[runsReversed].ascend(reversed(part), func(s string) bool {
		id := ci.RunID(reversed(s))
		for _, o := range out {
			if o == id {
				return true
			}
		}
		out = append(out, id)
		return len(out) < maxFound
	})
	return out
}

// Workflow returns a stored workflow, or nil when it is unknown or not all of
// its parts are there.
func (v *View) Workflow(hash string) *ci.Workflow {
	if w, ok := v.t.workflows.get(hash); ok {
		return w.Workflow
	}
	return nil
}

// Agents returns all agents by id.
func (v *View) Agents() []*ci.Agent {
	out := make([]*ci.Agent, 0, v.t.agents.len())
	v.t.agents.scan(func(_ ci.AgentID, a *ci.Agent) bool {
		out = append(out, a)
		return true
	})
	return out
}

// Agent returns an agent, or nil.
func (v *View) Agent(id ci.AgentID) *ci.Agent {
	a, _ := v.t.agents.get(id)
	return a
}

// Load returns what is reserved on an agent.
func (v *View) Load(id ci.AgentID) Load {
	l, _ := v.t.load.get(id)
	return l
}

// AttemptsOf returns what an agent holds: every attempt from its assignment to
// its end.
func (v *View) AttemptsOf(id ci.AgentID) []AttemptRef {
	var out []AttemptRef
	v.t.runs.indexes[runsLive].ascend(string(id)+sep, func(s string) bool {
		p := split(s)
		out = append(out, AttemptRef{Run: ci.RunID(p[1]), Step: p[2], Attempt: ci.AttemptID(p[3])})
		return true
	})
	return out
}

// QueuedSteps returns how many steps of a tenant wait: pending, blocked or
// queued.
func (v *View) QueuedSteps(id ci.TenantID) int {
	n, _ := v.t.waiting.get(id)
	return n
}

// Tenant returns a tenant, or nil.
func (v *View) Tenant(id ci.TenantID) *ci.Tenant {
	t, _ := v.t.tenants.get(id)
	return t
}

// Tenants returns all tenants by id.
func (v *View) Tenants() []*ci.Tenant {
	out := make([]*ci.Tenant, 0, v.t.tenants.len())
	v.t.tenants.scan(func(_ ci.TenantID, t *ci.Tenant) bool {
		out = append(out, t)
		return true
	})
	return out
}

// TokenByHash returns the token whose secret has this hex sha256, or nil.
func (v *View) TokenByHash(hash string) *ci.Token {
	var found *ci.Token
	v.t.tokens.indexes[tokensByHash].ascend(hash+sep, func(s string) bool {
		found, _ = v.t.tokens.get(ci.TokenID(split(s)[1]))
		return false
	})
	return found
}

// Tokens returns all tokens by id.
func (v *View) Tokens() []*ci.Token {
	out := make([]*ci.Token, 0, v.t.tokens.len())
	v.t.tokens.scan(func(_ ci.TokenID, t *ci.Token) bool {
		out = append(out, t)
		return true
	})
	return out
}

// Key returns the object that a command with this idempotency key made or
// changed within the last 24 h of cluster time.
func (v *View) Key(tenant ci.TenantID, key string) (object string, ok bool) {
	k, ok := v.t.keys.get(keyID{tenant, key})
	return k.Object, ok
}

// AuditDesc calls fn for each audit entry from the newest until it returns
// false; with a before other than zero, only for those older than it.
func (v *View) AuditDesc(before AuditKey, fn func(AuditKey, *ci.AuditEntry) bool) {
	if before == (AuditKey{}) {
		v.t.audit.reverse(fn)
		return
	}
	v.t.audit.descend(before, fn)
}
