// Package lifecycle starts, stops and waits for a set of things. It is the
// only home of `go` statements: whatever runs concurrently is a member of a
// Group or a task of Tasks, so that nothing outlives its owner and no panic
// takes the process down without a word.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
)

// ErrStopped is the cancellation cause that a member's context carries when
// its Group or Tasks stops it.
var ErrStopped = errors.New("stopped by its owner")

// Group is an ordered set of members that live and die together. Members are
// added before Run; those that others lean on first, since stopping goes from
// the last to the first:
//
//	Add a, b, c    Run: start a, b, c ......... stop c, wait; stop b, wait; stop a, wait
//	                                     ^ first error, or the end of Run's context
//
// The zero value is an empty group. A Group is run once.
type Group struct {
	members []member
}

type member struct {
	name string
	run  func(ctx context.Context) error
}

// Add appends a member. Its context ends when the group stops it, which is
// after every member added later has returned; it does not end with the context
// given to Run. A member that returns nil is over and the group goes on; one
// that returns an error or panics stops the whole group. Add must not be called
// once Run has been.
func (g *Group) Add(name string, run func(ctx context.Context) error) {
	g.members = append(g.members, member{name, run})
}

// Run starts the members in the order of adding and returns when all of them
// have returned. It returns nil when they ended by themselves or because ctx
// ended; else the first failure, named after its member and joined with
// whatever failed while stopping. A stopped member may answer with the error of
// its own context: that is no failure.
func (g *Group) Run(ctx context.Context) error {
	// Members must not see ctx end all at once: each is stopped in its turn.
	base := context.WithoutCancel(ctx)
	failed := make(chan error, len(g.members))
	running := make([]*handle, len(g.members))
	for i, m := range g.members {
		running[i] = start(base, m, failed)
	}
	var errs []error
	select {
	case <-ctx.Done():
	case err := <-failed:
		errs = append(errs, err)
	case <-allDone(running):
	}
	for i := len(running) - 1; i >= 0; i-- {
		running[i].cancel(ErrStopped)
		<-running[i].done
	}
	for {
		select {
		case err := <-failed:
			errs = append(errs, err)
		default:
			return errors.Join(errs...)
		}
	}
}

type handle struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

func start(base context.Context, m member, failed chan<- error) *handle {
	ctx, cancel := context.WithCancelCause(base)
	h := &handle{cancel: cancel, done: make(chan struct{})}
	go func() {
		err := errGoexit // stands when the call below does not come back
		defer func() {
			if err != nil && !answersStop(ctx, err) {
				failed <- fmt.Errorf("%s: %w", m.name, err)
			}
			close(h.done)
		}()
		err = guard(func() error { return m.run(ctx) })
	}()
	return h
}

// answersStop reports whether err is only the echo of ctx's own end.
func answersStop(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ErrStopped))
}

// allDone returns a channel that is closed once every member has returned.
func allDone(running []*handle) <-chan struct{} {
	all := make(chan struct{})
	go func() {
		defer close(all)
		for _, h := range running {
			<-h.done
		}
	}()
	return all
}
