package lifecycle

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) untilStopped(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		j.add(name)
		return ctx.Err()
	}
}

func TestGroupStopsInReverseWhenContextEnds(t *testing.T) {
	t.Parallel()
	var j journal
	var g Group
	for _, name := range []string{"raft", "engine", "api"} {
		g.Add(name, j.untilStopped(name))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Run(ctx); err != nil {
		t.Fatalf("Run = %v, want nil: the context ended", err)
	}
	if want := []string{"api", "engine", "raft"}; !slices.Equal(j.lines, want) {
		t.Errorf("stopped %v, want %v", j.lines, want)
	}
}

func TestGroupMemberWaitsForTheLaterOnes(t *testing.T) {
	t.Parallel()
	var g Group
	later := make(chan struct{})
	g.Add("first", func(ctx context.Context) error {
		<-ctx.Done()
		select {
		case <-later:
			return nil
		default:
			return errors.New("stopped before the one that leans on it had returned")
		}
	})
	g.Add("second", func(ctx context.Context) error {
		<-ctx.Done()
		runtime.Gosched()
		close(later)
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestGroupFirstErrorStopsAll(t *testing.T) {
	t.Parallel()
	boom, late := errors.New("boom"), errors.New("could not flush")
	var j journal
	var g Group
	g.Add("a", j.untilStopped("a"))
	g.Add("b", func(context.Context) error { return boom })
	g.Add("c", func(ctx context.Context) error { <-ctx.Done(); return late })
	err := g.Run(t.Context())
	if !errors.Is(err, boom) || !errors.Is(err, late) {
		t.Fatalf("Run = %v, want both the cause and the failed stop", err)
	}
	if !strings.HasPrefix(err.Error(), "b: boom") {
		t.Errorf("Run = %q, want the first failure first, named after its member", err)
	}
	if !slices.Equal(j.lines, []string{"a"}) {
		t.Errorf("a was not stopped: %v", j.lines)
	}
}

func TestGroupGoesOnWhenAMemberReturnsNil(t *testing.T) {
	t.Parallel()
	var g Group
	over := make(chan struct{})
	g.Add("task", func(context.Context) error { close(over); return nil })
	ctx, cancel := context.WithCancel(t.Context())
	g.Add("service", func(own context.Context) error {
		<-over
		if own.Err() != nil {
			return errors.New("stopped by a member that merely ended")
		}
		cancel()
		<-own.Done()
		return nil
	})
	if err := g.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestGroupEndsWithItsMembers(t *testing.T) {
	t.Parallel()
	var g Group
	if err := g.Run(t.Context()); err != nil {
		t.Fatalf("empty group: %v", err)
	}
	g.Add("x", func(context.Context) error { return nil })
	if err := g.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestGroupCancelledBeforeStopIsAnError(t *testing.T) {
	t.Parallel()
	var g Group
	g.Add("x", func(context.Context) error { return context.Canceled })
	if err := g.Run(t.Context()); !errors.Is(err, context.Canceled) {
		t.Fatalf("Run = %v, want the member's own error: nobody had stopped it", err)
	}
}

func TestGroupPanicBecomesErrorWithStack(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	var g Group
	g.Add("x", func(context.Context) error { panic(boom) })
	err := g.Run(t.Context())
	var p *PanicError
	if !errors.As(err, &p) || !errors.Is(err, boom) {
		t.Fatalf("Run = %v, want a PanicError around the value", err)
	}
	if !strings.Contains(err.Error(), "group_test.go") {
		t.Errorf("no stack in %q", err)
	}
}

func TestGroupGoexitIsAnError(t *testing.T) {
	t.Parallel()
	var g Group
	g.Add("x", func(context.Context) error { runtime.Goexit(); return nil })
	if err := g.Run(t.Context()); !errors.Is(err, errGoexit) {
		t.Fatalf("Run = %v", err)
	}
}
