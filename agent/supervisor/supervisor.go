// Package supervisor makes what runs on a host equal to what is assigned to
// it: one worker per attempt, each a machine that moves by one journalled
// transition at a time, so that an agent that stops anywhere goes on there.
// DESIGN.md has the diagram and the reasons.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
)

// Supervisor owns the attempts of a host. It is safe for concurrent use.
type Supervisor struct {
	deps    Deps
	journal *Journal

	mu      sync.Mutex
	tasks   *lifecycle.Tasks // nil before Run
	seen    Index
	workers map[ci.AttemptID]*worker
	over    *recent       // attempts that ended here, against sets that are behind
	closing bool          // nothing new is taken
	idle    chan struct{} // closed and replaced whenever a worker ends
	changed chan struct{} // capacity 1: progress that a heartbeat should tell
}

// New reads the journal and adopts what an earlier agent left: workspaces and
// caches are held again when it returns. Run then goes on with the attempts.
func New(d Deps) (*Supervisor, error) {
	journal, err := OpenJournal(filepath.Join(d.Dir, "journal"), d.Log)
	if err != nil {
		return nil, err
	}
	seen, err := journal.LoadIndex()
	if err != nil {
		return nil, err
	}
	entries, err := journal.Load()
	if err != nil {
		return nil, err
	}
	s := &Supervisor{
		deps: d, journal: journal, seen: seen, workers: map[ci.AttemptID]*worker{},
		over: newRecent(4096), idle: make(chan struct{}), changed: make(chan struct{}, 1),
	}
	for i := range entries {
		e := entries[i]
		if e.Workspace.Dir != "" {
			d.Workspaces.Adopt(e.Assignment.Attempt, e.Workspace)
		}
		if len(e.Caches) > 0 {
			d.Caches.Adopt(&e.Assignment, e.Caches)
		}
		w := newWorker(s, e)
		w.mayRun = e.Stage == StageStarted
		s.workers[e.Assignment.Attempt] = w
	}
	if len(entries) > 0 {
		d.Log.Info("attempts of an earlier agent are taken up again", "attempts", len(entries))
	}
	return s, s.sweepFolders()
}

// Run works until ctx ends. Steps run on then, and a later agent adopts them.
func (s *Supervisor) Run(ctx context.Context) error {
	tasks := lifecycle.NewTasks(ctx)
	s.mu.Lock()
	s.tasks = tasks
	for _, w := range s.workers {
		s.start(w)
	}
	s.mu.Unlock()
	for name, rt := range s.deps.Runtimes {
		tasks.Go("sweep "+name, func(ctx context.Context) { s.sweep(ctx, name, rt) })
	}
	return tasks.Run(ctx)
}

// start runs a worker; the caller holds mu.
func (s *Supervisor) start(w *worker) {
	s.tasks.Go("attempt "+string(w.id), func(ctx context.Context) {
		if w.run(ctx) {
			s.ended(w)
		}
	})
}

func (s *Supervisor) ended(w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.workers, w.id)
	s.over.add(w.id)
	close(s.idle)
	s.idle = make(chan struct{})
}

// Set takes a coordinator's set of assignments, the full one or a delta, of
// the given age; one older than the last is ignored and answered with false.
// What is assigned and unknown begins; what is not assigned any more is
// stopped and cleaned up.
func (s *Supervisor) Set(at Index, full bool, assigned []Assignment, removed []ci.AttemptID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.Before(s.seen) {
		s.deps.Log.Info("a coordinator that is behind sent its set; it is ignored", "index", at, "seen", s.seen)
		return false
	}
	if s.seen != at {
		s.seen = at
		if err := s.journal.PutIndex(at); err != nil {
			s.deps.Log.Warn("cannot keep the index of the set", "error", err)
		}
	}
	named := map[ci.AttemptID]bool{}
	for _, a := range assigned {
		named[a.Attempt] = true
		s.take(a)
	}
	for _, id := range removed {
		if w := s.workers[id]; w != nil {
			w.drop()
		}
	}
	if full {
		for id, w := range s.workers {
			if !named[id] {
				w.drop()
			}
		}
	}
	return true
}

// take makes or updates the worker of an assignment; the caller holds mu.
func (s *Supervisor) take(a Assignment) {
	w := s.workers[a.Attempt]
	switch {
	case w != nil:
	case a.Attempt == "" || filepath.Base(string(a.Attempt)) != string(a.Attempt):
		s.deps.Log.Error("an assignment is ignored: its id cannot be a file's name", "attempt", a.Attempt)
		return
	case s.over.has(a.Attempt):
		return // the coordinator does not know yet
	case s.closing:
		return // not accepted, it goes to another agent
	default:
		w = newWorker(s, Entry{Assignment: a, BootID: s.deps.BootID})
		s.workers[a.Attempt] = w
		if s.tasks != nil {
			s.start(w)
		}
	}
	if a.Want != ci.WantRun {
		w.want(a.Want, a.WantReason)
	}
}

// Seen returns the highest index taken.
func (s *Supervisor) Seen() Index {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// Progress returns what there is to tell of every attempt that was accepted.
func (s *Supervisor) Progress() []Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []Progress{}
	for _, w := range s.workers {
		if p := w.progress(); p.State != 0 {
			all = append(all, p)
		}
	}
	return all
}

// Changed receives when Progress has news that should not wait for the next
// heartbeat.
func (s *Supervisor) Changed() <-chan struct{} { return s.changed }

func (s *Supervisor) change() {
	select {
	case s.changed <- struct{}{}:
	default: // it is known already
	}
}

// Hint tells that a step has put an object below its LOG_PATH.
func (s *Supervisor) Hint(attempt ci.AttemptID, name string) {
	if name != reportName && name != completeName {
		return
	}
	s.mu.Lock()
	w := s.workers[attempt]
	s.mu.Unlock()
	if w != nil {
		w.hint(name)
	}
}

// CancelAll cancels every attempt, as at the end of a fleet of one machine, and
// takes no more.
func (s *Supervisor) CancelAll(reason ci.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	for _, w := range s.workers {
		w.want(ci.WantCancel, reason)
	}
}

// Idle returns once there is no attempt, or with an error when ctx ends.
func (s *Supervisor) Idle(ctx context.Context) error {
	for {
		s.mu.Lock()
		n, idle := len(s.workers), s.idle
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("%d attempts have not ended: %w", n, context.Cause(ctx))
		}
	}
}

func (s *Supervisor) attemptDir(id ci.AttemptID) string {
	return filepath.Join(s.deps.Dir, "attempts", string(id))
}

// sweep removes what a runtime has of attempts that nobody knows. Attempts are
// known before anything is made for them, so what is unknown is a leftover.
func (s *Supervisor) sweep(ctx context.Context, name string, rt runtime.Runtime) {
	_ = s.forever(ctx, "sweep leftovers of "+name, func() error {
		found, err := rt.List(ctx)
		if err != nil {
			return err
		}
		for id, h := range found {
			s.mu.Lock()
			known := s.workers[id] != nil
			s.mu.Unlock()
			if known {
				continue
			}
			s.deps.Log.Warn("removing what an unknown attempt left", "attempt", id, "runtime", name)
			err = errors.Join(err, rt.Remove(ctx, h))
		}
		return err
	})
}

// sweepFolders deletes the folders of attempts that are not in the journal.
func (s *Supervisor) sweepFolders() error {
	dir := filepath.Join(s.deps.Dir, "attempts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the folder of attempts: %w", err)
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot read the folder of attempts: %w", err)
	}
	for _, d := range there {
		if s.workers[ci.AttemptID(d.Name())] != nil {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, d.Name())); err != nil {
			s.deps.Log.Warn("cannot delete the folder of an attempt that is over", "error", err)
		}
	}
	return nil
}
