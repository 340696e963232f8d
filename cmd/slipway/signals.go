package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/slipway-ci/slipway/shared/lifecycle"
)

// signalError is the cause of a context that a signal ended. Ctrl-C and
// SIGTERM mean different things to a fleet: one cancels its steps, the other
// lets them run on.
type signalError struct{ os.Signal }

func (e signalError) Error() string { return "got signal " + e.String() }

// onSignals returns a context that ends with the first Ctrl-C or SIGTERM. A
// second one ends the program at once.
func onSignals() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	got := make(chan os.Signal, 2)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM)
	tasks := lifecycle.NewTasks(context.Background())
	tasks.Go("signals", func(own context.Context) {
		for n := 0; ; n++ {
			select {
			case sig := <-got:
				if n > 0 {
					os.Exit(exitInterrupted)
				}
				cancel(signalError{sig})
			case <-own.Done():
				return
			}
		}
	})
	return ctx, func() {
		signal.Stop(got)
		cancel(nil)
		_ = tasks.Stop() // it cannot panic
	}
}

// terminated reports whether SIGTERM ended the context, and not Ctrl-C.
func terminated(ctx context.Context) bool {
	var s signalError
	return errors.As(context.Cause(ctx), &s) && s.Signal == syscall.SIGTERM
}
