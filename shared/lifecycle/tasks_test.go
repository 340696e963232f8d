package lifecycle

import (
	"context"
	"errors"
	"runtime"
	"testing"
)

func TestTasksStopEndsAndWaits(t *testing.T) {
	t.Parallel()
	tasks := NewTasks(t.Context())
	ended := make(chan error, 1)
	if !tasks.Go("x", func(ctx context.Context) { <-ctx.Done(); ended <- context.Cause(ctx) }) {
		t.Fatal("refused by an open set")
	}
	if err := tasks.Stop(); err != nil {
		t.Fatal(err)
	}
	if cause := <-ended; !errors.Is(cause, ErrStopped) {
		t.Errorf("cause = %v", cause)
	}
	if tasks.Go("late", func(context.Context) {}) {
		t.Error("a stopped set took a task")
	}
	if err := tasks.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

func TestTasksMayStartTasks(t *testing.T) {
	t.Parallel()
	tasks := NewTasks(t.Context())
	n := 0
	tasks.Go("parent", func(context.Context) {
		tasks.Go("child", func(context.Context) { n++ })
	})
	if err := tasks.Wait(); err != nil {
		t.Fatal(err)
	}
	if n != 1 || tasks.Len() != 0 {
		t.Errorf("child ran %d times, %d left", n, tasks.Len())
	}
	if err := tasks.Stop(); err != nil {
		t.Fatal(err)
	}
}

func TestTasksEndWithTheirContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	tasks := NewTasks(ctx)
	tasks.Go("x", func(ctx context.Context) { <-ctx.Done() })
	cancel()
	if err := tasks.Wait(); err != nil {
		t.Fatal(err)
	}
	if tasks.Go("late", func(context.Context) {}) {
		t.Error("took a task after its context had ended")
	}
}

func TestTasksPanicStopsTheGroup(t *testing.T) {
	t.Parallel()
	tasks := NewTasks(t.Context())
	var g Group
	g.Add("workers", tasks.Run)
	tasks.Go("good", func(ctx context.Context) { <-ctx.Done() })
	tasks.Go("bad", func(context.Context) { panic("boom") })
	err := g.Run(t.Context())
	var p *PanicError
	if !errors.As(err, &p) || p.Value != "boom" {
		t.Fatalf("Run = %v", err)
	}
	select {
	case <-tasks.Failed():
	default:
		t.Error("Failed is not closed")
	}
}

func TestTasksGoexitIsCounted(t *testing.T) {
	t.Parallel()
	tasks := NewTasks(t.Context())
	tasks.Go("x", func(context.Context) { runtime.Goexit() })
	if err := tasks.Wait(); !errors.Is(err, errGoexit) {
		t.Fatalf("Wait = %v", err)
	}
	_ = tasks.Stop()
}
