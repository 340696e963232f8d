package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
)

// fakeRuntime is an engine whose programs are functions. Like a real engine it
// outlives the agents that speak to it.
type fakeRuntime struct {
	w       *world
	program func(p *proc)

	prepareErr, startErr error
	slow                 time.Duration // Prepare takes this long

	mu    sync.Mutex
	procs map[ci.AttemptID]*proc
	gone  int // removed
	runs  int // programs started
}

// proc is one container.
type proc struct {
	rt   *fakeRuntime
	spec runtime.Spec
	term chan string // receives the stop signal
	over chan struct{}

	mu      sync.Mutex
	started bool
	exit    *runtime.Exit
	log     []runtime.Record
	more    chan struct{} // closed and replaced with each line
}

func (p *proc) print(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.log) + 1
	p.log = append(p.log, runtime.Record{Time: time.Now(), Data: fmt.Appendf(nil, format, args...), Cursor: runtime.Cursor(strconv.Itoa(n))})
	close(p.more)
	p.more = make(chan struct{})
}

func (p *proc) end(e runtime.Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exit == nil {
		e.At = time.Now()
		p.exit = &e
		close(p.over)
		close(p.more)
		p.more = make(chan struct{})
	}
}

// sleep returns false when the program was killed.
func (p *proc) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.over:
		return false
	}
}

// env returns a variable of the program.
func (p *proc) env(name string) string {
	for _, kv := range p.spec.Env {
		if len(kv) > len(name) && kv[:len(name)+1] == name+"=" {
			return kv[len(name)+1:]
		}
	}
	return ""
}

// report writes a file into the report folder, by rename.
func (p *proc) report(name, text string) {
	dir := p.env("SLIPWAY_REPORT_DIR")
	err := os.WriteFile(filepath.Join(dir, "."+name), []byte(text), 0o600)
	if err = errors.Join(err, os.Rename(filepath.Join(dir, "."+name), filepath.Join(dir, name))); err != nil {
		p.print("cannot report: %v", err)
	}
}

func (f *fakeRuntime) Prepare(ctx context.Context, s runtime.Spec) (runtime.Handle, error) {
	h := runtime.Handle{Attempt: s.Attempt, Runtime: "fake", ID: "c-" + string(s.Attempt), ImageDigest: "img@sha256:1"}
	return h, f.w.call(ctx, "Prepare", func() error {
		if !pause(ctx, f.slow) {
			return ctx.Err()
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.prepareErr != nil {
			return f.prepareErr
		}
		if f.procs[s.Attempt] == nil {
			f.procs[s.Attempt] = &proc{rt: f, spec: s, term: make(chan string, 1), over: make(chan struct{}), more: make(chan struct{})}
		}
		return nil
	})
}

func (f *fakeRuntime) find(h runtime.Handle) (*proc, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.procs[h.Attempt]; p != nil && h.ID == "c-"+string(h.Attempt) {
		return p, nil
	}
	return nil, fmt.Errorf("no such container: %q", h.ID)
}

func (f *fakeRuntime) Start(ctx context.Context, h runtime.Handle) error {
	return f.w.call(ctx, "Start", func() error {
		if f.startErr != nil {
			return f.startErr
		}
		p, err := f.find(h)
		if err != nil {
			return err
		}
		if !f.w.isAccepted(h.Attempt) {
			f.w.t.Error("user code starts before the accept is committed")
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.started {
			p.started = true
			f.mu.Lock()
			f.runs++
			f.mu.Unlock()
			f.w.programs.Go("program", func(context.Context) { f.program(p) })
		}
		return nil
	})
}

func (f *fakeRuntime) Wait(ctx context.Context, h runtime.Handle) (runtime.Exit, error) {
	var exit runtime.Exit
	err := f.w.call(ctx, "Wait", func() error {
		p, err := f.find(h)
		if err != nil {
			return err
		}
		select {
		case <-p.over:
			exit = *p.exit
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return exit, err
}

func (f *fakeRuntime) Logs(ctx context.Context, h runtime.Handle, since runtime.Cursor, sink runtime.Sink) error {
	return f.w.call(ctx, "Logs", func() error {
		p, err := f.find(h)
		if err != nil {
			return err
		}
		at, _ := strconv.Atoi(string(since))
		for {
			p.mu.Lock()
			lines, more, over := p.log[at:], p.more, p.exit != nil
			p.mu.Unlock()
			for _, r := range lines {
				if err := sink.Write(r); err != nil {
					return err
				}
				at++
			}
			if over {
				return nil
			}
			select {
			case <-more:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

func (f *fakeRuntime) Stop(ctx context.Context, h runtime.Handle, signal string, grace time.Duration) error {
	return f.w.call(ctx, "Stop", func() error {
		p, err := f.find(h)
		if err != nil {
			return err
		}
		select {
		case p.term <- signal:
		default: // it was told before
		}
		select {
		case <-p.over:
		case <-time.After(grace):
			p.end(runtime.Exit{Code: 137})
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	})
}

func (f *fakeRuntime) Remove(ctx context.Context, h runtime.Handle) error {
	return f.w.call(ctx, "Remove", func() error {
		p, err := f.find(h)
		if err != nil {
			return nil //nolint:nilerr // what is gone is removed
		}
		p.end(runtime.Exit{Code: 137})
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.procs, h.Attempt)
		f.gone++
		return nil
	})
}

func (f *fakeRuntime) List(ctx context.Context) (map[ci.AttemptID]runtime.Handle, error) {
	all := map[ci.AttemptID]runtime.Handle{}
	err := f.w.call(ctx, "List", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		for id := range f.procs {
			all[id] = runtime.Handle{Attempt: id, Runtime: "fake", ID: "c-" + string(id)}
		}
		return nil
	})
	return all, err
}
