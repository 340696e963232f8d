package consensus

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
	"github.com/slipway-ci/slipway/coordinator/state"
)

// fsm is three delegations. What an entry means is the state's business; an
// entry that the state cannot read panics there and so halts the node, because
// going on would fork the state.
type fsm struct{ store *state.Store }

// Apply returns the commands' errors, one or nil for each.
func (f fsm) Apply(l *raft.Log) any { return f.store.ApplyEntry(l.Index, l.Data) }

// Snapshot is cheap: the copy is made on write.
func (f fsm) Snapshot() (raft.FSMSnapshot, error) { return snapshot{f.store.Snapshot()}, nil }

func (f fsm) Restore(r io.ReadCloser) error {
	if err := errors.Join(f.store.Restore(r), r.Close()); err != nil {
		return fmt.Errorf("cannot restore the state from a snapshot: %w", err)
	}
	return nil
}

type persister interface{ Persist(w io.Writer) error }

type snapshot struct{ of persister }

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.of.Persist(sink); err != nil {
		return errors.Join(fmt.Errorf("cannot write a snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

func (snapshot) Release() {}
