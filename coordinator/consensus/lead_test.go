package consensus

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"golang.org/x/sync/errgroup"
)

func fakeTerm(number uint64) *term {
	t := &term{number: number}
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	return t
}

// TestLeadSkipsTermsThatAreOver: only the newest term counts for work that was
// slow to end.
func TestLeadSkipsTermsThatAreOver(t *testing.T) {
	t.Parallel()
	terms := newTerms()
	ctx, cancel := context.WithCancel(t.Context())
	began, ended := make(chan struct{}), make(chan struct{})
	var g errgroup.Group
	g.Go(func() error {
		return terms.lead(ctx, slog.New(slog.DiscardHandler), func(term context.Context) error {
			began <- struct{}{}
			<-term.Done()
			ended <- struct{}{}
			return context.Cause(term)
		})
	})
	one, two, three := fakeTerm(1), fakeTerm(2), fakeTerm(3)
	terms.set(one)
	<-began
	one.cancel(errTermOver)
	terms.set(nil)
	terms.set(two)
	two.cancel(errTermOver)
	terms.set(three) // replaces two before anyone has looked
	<-ended
	<-began
	cancel()
	<-ended
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	three.cancel(nil)
}

func TestLeadReturnsTheFailureOfItsWork(t *testing.T) {
	t.Parallel()
	terms := newTerms()
	one := fakeTerm(1)
	defer one.cancel(nil)
	terms.set(one)
	boom := errors.New("boom")
	err := terms.lead(t.Context(), slog.New(slog.DiscardHandler), func(context.Context) error { return boom })
	if !errors.Is(err, boom) {
		t.Errorf("lead = %v", err)
	}
}

func TestLeadSurvivesWorkThatEndsBadlyWithItsTerm(t *testing.T) {
	t.Parallel()
	terms := newTerms()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	one, two := fakeTerm(1), fakeTerm(2)
	defer two.cancel(nil)
	terms.set(one)
	runs := 0
	err := terms.lead(ctx, slog.New(slog.DiscardHandler), func(term context.Context) error {
		if runs++; runs == 2 {
			cancel()
			return nil
		}
		one.cancel(errTermOver)
		<-term.Done()
		terms.set(two)
		return errors.New("a proposal was refused")
	})
	if err != nil || runs != 2 {
		t.Errorf("lead = %v after %d runs", err, runs)
	}
}
