package state

import "github.com/slipway-ci/slipway/shared/ci"

// AuditKey is the place of an audit entry: the index of the log entry that made
// it and a count within that, from 0.
type AuditKey struct {
	Index uint64
	N     int
}

func (k AuditKey) less(o AuditKey) bool {
	if k.Index != o.Index {
		return k.Index < o.Index
	}
	return k.N < o.N
}

// record adds an audit entry when the command's actor is a person, or always
// with force: some things are worth a record whoever did them.
func (x *tx) record(e ci.AuditEntry, force bool) {
	if !force && !x.actor.Person() {
		return
	}
	e.Index, e.At, e.Actor = x.index, x.stamp.Wall, x.actor
	if e.Action == "" {
		e.Action = x.op
	}
	x.t.audit.put(AuditKey{x.index, x.audits}, &e)
	x.audits++
}
