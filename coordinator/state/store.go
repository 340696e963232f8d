package state

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Store holds the state. One goroutine applies entries, any number read views.
type Store struct {
	t    tables // the writer's own; readers have views
	view atomic.Pointer[View]

	watchMu  sync.Mutex
	watchers map[*Watcher]struct{}
}

// New returns an empty store.
func New() *Store {
	s := &Store{watchers: make(map[*Watcher]struct{})}
	s.replace(newTables())
	return s
}

// View returns the state after the last entry applied.
func (s *Store) View() *View { return s.view.Load() }

// tx is what an op may see and change while it is applied.
type tx struct {
	t       *tables
	index   uint64
	stamp   Stamp
	actor   ci.Actor
	op      string
	audits  int // entries recorded by this log entry so far
	changes changeSet
}

// ApplyEntry applies one entry of the log and returns, for each of its
// commands, nil or a ci.Error. Indexes must rise. It panics on an entry that
// cannot be decoded: going on would fork the state. A panic within an op undoes
// the whole entry, which is then quarantined; see View.Quarantined.
func (s *Store) ApplyEntry(index uint64, data []byte) []error {
	if index <= s.t.meta.Index {
		panic(fmt.Sprintf("entry %d after entry %d: the log went back", index, s.t.meta.Index))
	}
	e, err := DecodeEntry(data)
	if err != nil {
		panic(fmt.Sprintf("entry %d: %v", index, err))
	}
	return s.applyEntry(index, e)
}

func (s *Store) applyEntry(index uint64, e Entry) []error {
	x := &tx{t: &s.t, index: index, stamp: e.Stamp, changes: newChangeSet()}
	x.stamp.Cluster = max(x.stamp.Cluster, s.t.meta.Stamp.Cluster)
	errs, cause := s.applyAll(x, e.Commands)
	if cause != nil {
		s.t = s.view.Load().t.copy()
		m := &s.t.meta
		m.QuarantineN++
		m.Quarantined = append(slices.Clone(m.Quarantined), index)
		m.Quarantined = m.Quarantined[max(0, len(m.Quarantined)-100):]
		x.changes = newChangeSet()
		errs = make([]error, len(e.Commands))
		for i := range errs {
			errs[i] = ci.Errorf(ci.Internal, "cannot apply the log's entry %d, which is left out: %w", index, cause)
		}
	}
	s.t.meta.Index, s.t.meta.Stamp = index, x.stamp
	s.t.sweep(x.stamp.Cluster)
	s.publish()
	s.tell(&x.changes)
	return errs
}

// applyAll applies the commands; cause is the panic of one of them.
func (s *Store) applyAll(x *tx, cmds []Command) (errs []error, cause error) {
	defer func() {
		if p := recover(); p != nil {
			cause = fmt.Errorf("panic: %v", p)
		}
	}()
	errs = make([]error, len(cmds))
	for i, c := range cmds {
		x.actor, x.op = c.Actor, c.Op.Name()
		errs[i] = x.do(c)
	}
	return errs, nil
}

// do applies one command, once for each idempotency key.
func (x *tx) do(c Command) error {
	k, isKeyed := c.Op.(keyed)
	if c.Key == "" || !isKeyed {
		return c.Op.apply(x)
	}
	if err := checkKey(c.Key); err != nil {
		return err
	}
	tenant, object, ok := k.subject(x.t)
	if !ok {
		return c.Op.apply(x)
	}
	if prev, ok := x.t.keys.get(keyID{tenant, c.Key}); ok {
		if prev.Op != x.op {
			return ci.FieldErrorf(ci.Conflict, "idempotency_key",
				"cannot use the idempotency key %q for %s: it was used for %s", c.Key, x.op, prev.Op)
		}
		return nil
	}
	if err := c.Op.apply(x); err != nil {
		return err
	}
	x.t.keys.put(keyID{tenant, c.Key}, keyRow{Tenant: tenant, Key: c.Key, Op: x.op, Object: object, At: x.stamp.Cluster})
	return nil
}

// replace makes t the whole state.
func (s *Store) replace(t tables) {
	s.t = t
	s.view.Store(&View{t: t.copy()})
}

// publish makes the state as it is now the one that readers see.
func (s *Store) publish() { s.view.Store(&View{t: s.t.frozen(&s.view.Load().t)}) }

func (s *Store) tell(c *changeSet) {
	if c.empty() {
		return
	}
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	for w := range s.watchers {
		w.tell(c)
	}
}
