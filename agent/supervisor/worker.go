package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
)

// A worker is the machine of one attempt. Each call of step makes one
// transition and journals where it leads, so that a crash anywhere means to
// call step again, in a new process: every transition is idempotent.
//
//	       assigned
//	          |  journalled before anything is made
//	          v
//	   +--- taken  prepare (code, caches, image, container) | accept
//	   |      |                both done, want is still run
//	   |      v
//	   |   started  Start; then wait for the first of these
//	   |    |   |
//	   |    |   +-- report, timeout, want, full disk --> stopping  Stop, read on
//	   |    | exit, log read                               |
//	   |    v                                              v
//	   +-> ended  the outcome stands | report it, remove the container | ship
//	refused   |                         log, artifacts, status.json
//	rejected  v
//	canceled shipped  report final, give everything back
//	          |
//	          v
//	       not in the journal
type worker struct {
	sup   *Supervisor
	id    ci.AttemptID
	path  logpath.Path
	rlog  *slog.Logger
	entry Entry // of the goroutine that runs the machine

	mayRun  bool  // user code may have been started, here or by an earlier process
	removed bool  // nothing of the runtime is left, as far as this process knows
	badPath error // the assignment names no place for the log
	log     Log
	tasks   *lifecycle.Tasks

	mu     sync.Mutex
	wanted ci.Want
	why    ci.Reason
	stop   context.CancelCauseFunc // ends what an unwanted attempt must not go on with
	hints  map[string]bool         // objects put below LOG_PATH, not read yet
	poke   chan struct{}           // capacity 1: hints
	news   Progress
}

// errUnwanted is why a wanted context ends.
var errUnwanted = errors.New("the attempt is not wanted any more")

func newWorker(s *Supervisor, e Entry) *worker {
	path, err := logpath.Parse(e.Assignment.LogPath)
	w := &worker{
		sup: s, id: e.Assignment.Attempt, path: path, entry: e,
		rlog:  s.deps.Log.With("attempt", e.Assignment.Attempt, "step", e.Assignment.Step.ID, "run", e.Assignment.Run),
		hints: map[string]bool{}, poke: make(chan struct{}, 1),
		news: Progress{Attempt: e.Assignment.Attempt, Fence: e.Assignment.Fence},
	}
	w.badPath = err
	return w
}

// want takes the coordinator's wish; it only moves forward.
func (w *worker) want(want ci.Want, why ci.Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if want <= w.wanted {
		return
	}
	w.wanted, w.why = want, why
	if w.stop != nil {
		w.stop(errUnwanted)
	}
}

// drop takes note that the attempt is not this agent's any more.
func (w *worker) drop() {
	w.want(ci.WantCancel, ci.ReasonSuperseded)
}

func (w *worker) unwanted() (ci.Want, ci.Reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wanted, w.why
}

func (w *worker) hint(name string) {
	w.mu.Lock()
	w.hints[name] = true
	w.mu.Unlock()
	select {
	case w.poke <- struct{}{}:
	default: // it looks at all hints anyway
	}
}

func (w *worker) progress() Progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.news
}

// tell changes what heartbeats say.
func (w *worker) tell(change func(p *Progress)) {
	w.mu.Lock()
	change(&w.news)
	w.mu.Unlock()
	w.sup.change()
}

// run moves the machine until the attempt is over, which it answers with true,
// or ctx ends.
func (w *worker) run(ctx context.Context) bool {
	w.tasks = lifecycle.NewTasks(ctx)
	defer w.leave()
	wantCtx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	w.mu.Lock()
	w.stop = stop
	if w.wanted != ci.WantRun {
		stop(errUnwanted)
	}
	w.mu.Unlock()
	b := patience()
	for {
		over, err := w.step(ctx, wantCtx)
		switch {
		case over:
			return true
		case ctx.Err() != nil:
			return false
		case err == nil:
			b.Reset()
			continue
		}
		w.rlog.Warn("an attempt does not get on; trying again", "stage", w.entry.Stage, "error", err)
		if !pause(ctx, b.NextBackOff()) {
			return false
		}
	}
}

// leave lets go of everything that belongs to this process.
func (w *worker) leave() {
	if err := w.tasks.Stop(); err != nil {
		w.rlog.Error("an attempt's task failed", "error", err)
	}
	w.closeLog()
}

func (w *worker) closeLog() {
	if w.log == nil {
		return
	}
	if err := w.log.Close(); err != nil {
		w.rlog.Warn("cannot close a log", "error", err)
	}
	w.log = nil
}

// step makes one transition. wantCtx ends with ctx or when the attempt is not
// wanted any more.
func (w *worker) step(ctx, wantCtx context.Context) (over bool, err error) {
	if w.entry.Stage == "" {
		return w.begin(ctx)
	}
	if err := w.reopen(); err != nil {
		return false, err
	}
	switch w.entry.Stage {
	case StageTaken:
		return w.prepare(ctx, wantCtx)
	case StageStarted:
		return false, w.watch(ctx, wantCtx)
	case StageStopping:
		return false, w.halt(ctx)
	case StageEnded:
		return false, w.ship(ctx)
	case StageShipped:
		err := w.conclude(ctx)
		return err == nil, err
	default:
		// A newer agent wrote it. Nothing is touched, so that it can go on.
		return false, fmt.Errorf("cannot go on from unknown stage %q of the journal", w.entry.Stage)
	}
}

// move journals the entry at a stage.
func (w *worker) move(to Stage, change func(e *Entry)) error {
	next := w.entry
	next.Stage = to
	change(&next)
	if err := w.sup.journal.Put(&next); err != nil {
		return err
	}
	w.rlog.Debug("attempt moves", "from", w.entry.Stage, "to", to)
	w.entry = next
	return nil
}

// begin takes the attempt. What cannot even be journalled is sent away at once.
func (w *worker) begin(ctx context.Context) (over bool, err error) {
	if err = w.badPath; err == nil {
		err = w.move(StageTaken, func(*Entry) {})
	}
	if err == nil {
		if err = w.reopen(); err == nil {
			return false, nil
		}
	}
	if ctx.Err() != nil {
		return false, err
	}
	o := ofPrepare(fmt.Errorf("cannot take the attempt: %w", err))
	if err := w.report(ctx, PhaseRejected, o); err != nil {
		return false, err
	}
	if err := w.tasks.Stop(); err != nil {
		w.rlog.Error("an attempt's task failed", "error", err)
	}
	w.closeLog()
	err = errors.Join(os.RemoveAll(w.dir()), w.sup.journal.Remove(w.id))
	return err == nil, err
}

// reopen takes up what a machine past its beginning needs in this process: the
// attempt's folder and its log.
func (w *worker) reopen() error {
	if w.log != nil {
		return nil
	}
	if w.entry.BootID != w.sup.deps.BootID && (w.entry.Stage == StageTaken || w.entry.Stage == StageStarted || w.entry.Stage == StageStopping) {
		o := Outcome{State: ci.AttemptLost, Reason: ci.ReasonAgentLost, Message: "the host was restarted", FinishedAt: time.Now()}
		if err := w.move(StageEnded, func(e *Entry) { e.Outcome = &o }); err != nil {
			return err
		}
	}
	// Containers of other users pass through it to the report folder.
	if err := os.MkdirAll(w.dir(), 0o755); err != nil {
		return fmt.Errorf("cannot make the attempt's folder: %w", err)
	}
	log, err := w.sup.deps.Logs.Open(w.id, filepath.Join(w.dir(), "log"), w.path)
	if err != nil {
		return err
	}
	w.log = log
	w.tasks.Go("log", func(ctx context.Context) {
		if err := log.Run(ctx); err != nil && ctx.Err() == nil {
			w.rlog.Error("a log cannot be shipped", "error", err)
		}
	})
	return nil
}

func (w *worker) dir() string       { return w.sup.attemptDir(w.id) }
func (w *worker) reportDir() string { return filepath.Join(w.dir(), "report") }
func (w *worker) executor() string  { return executorOf(&w.entry.Assignment.Step) }

func (w *worker) runtime() (runtime.Runtime, error) {
	rt := w.sup.deps.Runtimes[w.executor()]
	if rt == nil {
		return nil, &runtime.Problem{
			Reason: ci.ReasonInfra,
			Err:    fmt.Errorf("this agent has no executor %q", w.executor()),
		}
	}
	return rt, nil
}

// report sends a report until it is committed or refused.
func (w *worker) report(ctx context.Context, phase string, o Outcome) error {
	r := w.reportOf(phase, o)
	return w.sup.forever(ctx, fmt.Sprintf("report attempt %s %s", w.id, phase), func() error {
		accepted, err := w.sup.deps.Session.Report(ctx, r)
		switch {
		case refused(err):
			w.rlog.Warn("a report was refused", "phase", phase, "error", err)
			return nil
		case err == nil && !accepted:
			w.rlog.Info("a report came late: another result stands", "phase", phase)
		}
		return err
	})
}

func (w *worker) reportOf(phase string, o Outcome) Report {
	e := &w.entry
	r := Report{
		Attempt: w.id, Fence: e.Assignment.Fence, Phase: phase, Outcome: o.State,
		Reason: o.Reason, Message: o.Message, Exited: o.Exited, ExitCode: o.ExitCode, Outputs: o.Outputs,
		Log: e.Manifest, Artifacts: e.Artifacts,
		StartedAt: e.StartedAt, FinishedAt: o.FinishedAt, ImageDigest: e.Handle.ImageDigest,
	}
	if phase == PhaseRejected {
		r.Outcome = 0
	}
	return r
}
