package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Tasks is the supervised way to start goroutines whose number is not known
// beforehand: a worker per attempt, a follower per log. It may be used from
// many goroutines at once.
//
//	open --Go--> open (n running) --Stop, or the end of its context--> closed: Go refuses
type Tasks struct {
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	idle    *sync.Cond
	running int
	closed  bool
	errs    []error
	failed  chan struct{}
}

// NewTasks returns a set without tasks. Every task's context descends from ctx.
// The owner must call Stop, or Run, to release it.
func NewTasks(ctx context.Context) *Tasks {
	t := &Tasks{failed: make(chan struct{})}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	t.idle = sync.NewCond(&t.mu)
	return t
}

// Go starts run in a goroutine of its own and reports whether it did: a stopped
// set takes no more tasks. Run's context ends with the set.
func (t *Tasks) Go(name string, run func(ctx context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.ctx.Err() != nil {
		return false
	}
	t.running++
	go func() {
		err := errGoexit
		defer func() { t.end(name, err) }()
		err = guard(func() error { run(t.ctx); return nil })
	}()
	return true
}

func (t *Tasks) end(name string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	if err != nil {
		if len(t.errs) == 0 {
			close(t.failed)
		}
		t.errs = append(t.errs, fmt.Errorf("%s: %w", name, err))
	}
	if t.running == 0 {
		t.idle.Broadcast()
	}
}

// Len returns how many tasks are running.
func (t *Tasks) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running
}

// Failed returns a channel that is closed when the first task panics. The
// others run on; what to do is the owner's decision.
func (t *Tasks) Failed() <-chan struct{} { return t.failed }

// Wait returns once no task is running, with the panics there were.
func (t *Tasks) Wait() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.running > 0 {
		t.idle.Wait()
	}
	return errors.Join(t.errs...)
}

// Stop refuses new tasks, ends the context of those that run and waits for
// them. It may be called more than once.
func (t *Tasks) Stop() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel(ErrStopped)
	return t.Wait()
}

// Run makes the set a member of a Group: it stays until ctx ends or a task
// panics, then stops all tasks and returns the panics.
func (t *Tasks) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-t.ctx.Done():
	case <-t.failed:
	}
	return t.Stop()
}
