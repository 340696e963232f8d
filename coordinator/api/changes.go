package api

import (
	"context"
	"sync"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
)

// changes wakes those who wait for a run to change. One watcher serves them
// all, so that an entry costs the same however many people look on.
type changes struct {
	mu      sync.Mutex
	waiting map[ci.RunID]*waiters
	calls   map[*context.CancelFunc]struct{} // to end with the server
	stopped bool
}

type waiters struct {
	n       int           // how many look at changed
	changed chan struct{} // closed at the next change
}

func newChanges() *changes {
	return &changes{waiting: map[ci.RunID]*waiters{}, calls: map[*context.CancelFunc]struct{}{}}
}

// whileOpen returns a context that ends with ctx, with done, and when the
// server stops.
func (c *changes) whileOpen(ctx context.Context) (open context.Context, done func()) {
	open, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		cancel()
	}
	c.calls[&cancel] = struct{}{}
	return open, func() {
		cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.calls, &cancel)
	}
}

// of returns a channel that is closed at the run's next change. Take it before
// looking at the run, or the change in between is missed; and release it.
func (c *changes) of(id ci.RunID) (changed <-chan struct{}, release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waiting[id]
	if w == nil {
		w = &waiters{changed: make(chan struct{})}
		c.waiting[id] = w
	}
	w.n++
	return w.changed, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if w.n--; w.n == 0 && c.waiting[id] == w {
			delete(c.waiting, id)
		}
	}
}

func (c *changes) tell(what state.Changes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if what.All {
		c.wakeAll()
		return
	}
	for _, id := range what.Runs {
		if w := c.waiting[id]; w != nil {
			close(w.changed)
			delete(c.waiting, id)
		}
	}
}

func (c *changes) wakeAll() {
	for id, w := range c.waiting {
		close(w.changed)
		delete(c.waiting, id)
	}
}

// over reports whether nobody will be woken any more.
func (c *changes) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

func (c *changes) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.wakeAll()
		for cancel := range c.calls {
			(*cancel)()
		}
		c.stopped = true
	}
}
