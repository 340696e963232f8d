// Package state is the replicated state of a cluster and the only code that
// changes it. It is pure: the same log gives the same state on every
// coordinator, so nothing here reads a clock, draws a random number, starts a
// goroutine or does I/O. Time, ids and randomness enter inside commands.
package state

import (
	"context"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Stamp is the time at which the leader proposed an entry.
type Stamp struct {
	Wall    time.Time // UTC, for people and cron
	Cluster ci.ClusterTime
}

// Command is one change that somebody wants. Key makes it idempotent for 24 h
// of cluster time within its tenant; internal commands leave it empty, being
// idempotent by id, fence or rank.
type Command struct {
	Key   string
	Actor ci.Actor
	Op    Op
}

// Entry is what one entry of the log holds: a batch of commands and the time
// that all of them share.
type Entry struct {
	Stamp    Stamp
	Commands []Command
}

// Op is an operation on the state: a pointer to one of the structs of this
// package. It is sealed, since nothing else may change the state. An op is
// immutable once it has been handed to a Proposer.
type Op interface {
	// Name is the stable name that stands in the log, like "run.create".
	Name() string
	// apply validates first and writes nothing when it returns an error.
	apply(*tx) error
}

// Proposer puts a command through the log. It works on any member and returns
// once this member has applied the entry: index is that entry's, err is what
// apply said, or ci.Unavailable when no leader took it.
type Proposer interface {
	Propose(ctx context.Context, c Command) (index uint64, err error)
}

// Cluster is what a cluster knows of itself.
type Cluster struct {
	ID    string
	Seed  []byte // secret from which names of caches and the like are derived
	Epoch uint64 // grows at snapshot restore and recover
}
