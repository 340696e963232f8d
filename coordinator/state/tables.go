package state

import (
	"cmp"
	"strings"

	"github.com/slipway-ci/slipway/shared/ci"
)

// meta is the one row of things that there is one of. It is replaced like any
// other row.
type meta struct {
	Cluster     Cluster
	Fence       uint64 // the last one given out
	Index       uint64 // of the last entry applied
	Stamp       Stamp  // of that entry; Cluster never goes back
	Quarantined []uint64
	QuarantineN uint64 // how many there were, also those that Quarantined forgot
}

// tables is everything there is. What stands under "derived" is computed from
// the rest and is not part of a snapshot.
type tables struct {
	meta      meta
	tenants   *table[ci.TenantID, *ci.Tenant]
	tokens    *table[ci.TokenID, *ci.Token]
	agents    *table[ci.AgentID, *ci.Agent]
	workflows *table[string, *workflowRow]
	runs      *table[ci.RunID, *ci.Run]
	keys      *table[keyID, keyRow]
	audit     *table[AuditKey, *ci.AuditEntry]

	// derived
	load    *table[ci.AgentID, Load]
	waiting *table[ci.TenantID, int]
}

// The places of the indexes within their tables.
const (
	runsActive   = 0 // run id, of runs with anything left to do
	runsReversed = 1 // the run id backwards, to find runs by the end of it
	runsLive     = 2 // agent, run, step, attempt of what an agent holds

	tokensByHash = 0
	keysByAge    = 0
	idleByAge    = 0 // workflows that no run uses
)

func newTables() tables {
	return tables{
		tenants: newTable[ci.TenantID, *ci.Tenant](cmp.Less),
		tokens: newTable(cmp.Less[ci.TokenID], newIndex(func(t *ci.Token, emit func(string)) {
			emit(join(t.Hash, string(t.ID)))
		})),
		agents: newTable[ci.AgentID, *ci.Agent](cmp.Less),
		workflows: newTable(cmp.Less[string], newIndex(func(w *workflowRow, emit func(string)) {
			if w.Runs == 0 {
				emit(join(sortable(w.At), w.Hash))
			}
		})),
		runs: newTable(cmp.Less[ci.RunID],
			newIndex(func(r *ci.Run, emit func(string)) {
				if !quiet(r) {
					emit(string(r.ID))
				}
			}),
			newIndex(func(r *ci.Run, emit func(string)) { emit(reversed(string(r.ID))) }),
			newIndex(liveKeys),
		),
		keys: newTable(keyID.less, newIndex(func(k keyRow, emit func(string)) {
			emit(join(sortable(k.At), string(k.Tenant), k.Key))
		})),
		audit:   newTable[AuditKey, *ci.AuditEntry](AuditKey.less),
		load:    newTable[ci.AgentID, Load](cmp.Less),
		waiting: newTable[ci.TenantID, int](cmp.Less),
	}
}

func (t *tables) copy() tables {
	return tables{
		meta:      t.meta,
		tenants:   t.tenants.copy(),
		tokens:    t.tokens.copy(),
		agents:    t.agents.copy(),
		workflows: t.workflows.copy(),
		runs:      t.runs.copy(),
		keys:      t.keys.copy(),
		audit:     t.audit.copy(),
		load:      t.load.copy(),
		waiting:   t.waiting.copy(),
	}
}

// frozen returns tables for readers. Those that did not change since prev was
// made are the same ones.
func (t *tables) frozen(prev *tables) tables {
	return tables{
		meta:      t.meta,
		tenants:   t.tenants.frozen(prev.tenants),
		tokens:    t.tokens.frozen(prev.tokens),
		agents:    t.agents.frozen(prev.agents),
		workflows: t.workflows.frozen(prev.workflows),
		runs:      t.runs.frozen(prev.runs),
		keys:      t.keys.frozen(prev.keys),
		audit:     t.audit.frozen(prev.audit),
		load:      t.load.frozen(prev.load),
		waiting:   t.waiting.frozen(prev.waiting),
	}
}

// liveKeys emits agent, run, step and attempt of each attempt that an agent
// holds.
func liveKeys(r *ci.Run, emit func(string)) {
	for _, s := range r.Steps {
		for _, a := range s.Attempts {
			if held(a) {
				emit(join(string(a.Agent), string(r.ID), s.ID, string(a.ID)))
			}
		}
	}
}

// held reports whether an agent has the attempt: from its assignment to its end.
func held(a *ci.Attempt) bool { return a.State >= ci.AttemptAssigned && a.Live() }

// quiet reports whether nothing is left to do for the run: it is over and every
// attempt of it is.
func quiet(r *ci.Run) bool {
	if !r.State.Terminal() {
		return false
	}
	for _, s := range r.Steps {
		for _, a := range s.Attempts {
			if a.Live() {
				return false
			}
		}
	}
	return true
}

const sep = "\x00"

func join(parts ...string) string { return strings.Join(parts, sep) }

func split(s string) []string { return strings.Split(s, sep) }

// sortable renders a time so that text order is the order of time.
func sortable(t ci.ClusterTime) string {
	const digits = "0123456789abcdef"
	var b [16]byte
	u := uint64(t)
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = digits[u&15]
		u >>= 4
	}
	return string(b[:])
}

func reversed(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}
