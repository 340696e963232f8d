package state

import (
	"cmp"
	"slices"
	"sync"

	"github.com/slipway-ci/slipway/shared/ci"
)

// maxChanges is how many changed ids a watcher collects before it says All.
const maxChanges = 1 << 16

// Changes is what changed since a watcher last asked. With All the rest is
// empty: everything may have changed.
type Changes struct {
	All     bool
	Runs    []ci.RunID
	Agents  []ci.AgentID
	Tenants []ci.TenantID
}

// Watcher tells one reader that the state changed. It only wakes: the reader
// then takes Changed, and after it the newest View, and decides by that.
type Watcher struct {
	store *Store
	wake  chan struct{}

	mu  sync.Mutex
	got changeSet
}

type changeSet struct {
	all     bool
	runs    map[ci.RunID]struct{}
	agents  map[ci.AgentID]struct{}
	tenants map[ci.TenantID]struct{}
}

func newChangeSet() changeSet {
	return changeSet{
		runs:    make(map[ci.RunID]struct{}),
		agents:  make(map[ci.AgentID]struct{}),
		tenants: make(map[ci.TenantID]struct{}),
	}
}

func (c *changeSet) empty() bool {
	return !c.all && len(c.runs) == 0 && len(c.agents) == 0 && len(c.tenants) == 0
}

func (c *changeSet) add(o *changeSet) {
	c.all = c.all || o.all
	if c.all {
		return
	}
	for id := range o.runs {
		c.runs[id] = struct{}{}
	}
	for id := range o.agents {
		c.agents[id] = struct{}{}
	}
	for id := range o.tenants {
		c.tenants[id] = struct{}{}
	}
	c.all = len(c.runs)+len(c.agents)+len(c.tenants) > maxChanges
}

// Watch returns a watcher that is awake at once and says All the first time.
// The caller must Close it.
func (s *Store) Watch() *Watcher {
	w := &Watcher{store: s, wake: make(chan struct{}, 1), got: newChangeSet()}
	w.got.all = true
	w.wake <- struct{}{}
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	s.watchers[w] = struct{}{}
	return w
}

// C returns the channel that holds a value whenever Changed has something to
// tell.
func (w *Watcher) C() <-chan struct{} { return w.wake }

// Changed returns what changed since it was last called, each id once, in
// order. A View taken after the call shows all of it.
func (w *Watcher) Changed() Changes {
	w.mu.Lock()
	got := w.got
	w.got = newChangeSet()
	w.mu.Unlock()
	if got.all {
		return Changes{All: true}
	}
	return Changes{Runs: sorted(got.runs), Agents: sorted(got.agents), Tenants: sorted(got.tenants)}
}

// Close ends the watcher. It may be called more than once.
func (w *Watcher) Close() {
	w.store.watchMu.Lock()
	defer w.store.watchMu.Unlock()
	delete(w.store.watchers, w)
}

func (w *Watcher) tell(c *changeSet) {
	w.mu.Lock()
	w.got.add(c)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func sorted[K cmp.Ordered](set map[K]struct{}) []K {
	if len(set) == 0 {
		return nil
	}
	out := make([]K, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
