package state

import "io"

// Snapshot is the state at one moment, ready to be written out. Taking it is
// O(1); it holds no lock.
type Snapshot struct{ v *View }

// Snapshot returns the state after the last entry applied.
func (s *Store) Snapshot() Snapshot { return Snapshot{v: s.View()} }

// Index returns the index of the last entry that the snapshot holds.
func (s Snapshot) Index() uint64 { return s.v.Index() }

// Persist writes the snapshot.
func (s Snapshot) Persist(w io.Writer) error { return s.v.write(w) }
