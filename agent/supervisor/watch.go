package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
)

const (
	reportPoll = 250 * time.Millisecond
	// state.json follows a step no faster than this, and not at all while the
	// step is younger.
	statePace = 2 * time.Second
	// A step that has reported its end may go by itself for settleTime, then
	// has reportGrace after the signal: all in all it is gone within 2 s.
	settleTime  = 400 * time.Millisecond
	reportGrace = 300 * time.Millisecond
	// readOn bounds how long the end of a log is tried to be read once the
	// step is over, while its engine is away.
	readOn = time.Minute
	// exitWait bounds how long a stopped step's exit code is asked for.
	exitWait  = 10 * time.Second
	hintFetch = 2 * time.Second
)

// stretch is the time during which this process watches user code.
type stretch struct {
	w       *worker
	rt      runtime.Runtime
	tasks   *lifecycle.Tasks
	exit    chan runtime.Exit
	read    chan error // the log is read, or cannot be written
	drained bool       // read has given its one value
	files   *reportDir
	last    *logpath.Report // newest report of the step
	final   *logpath.Report // its final word; a failure beats a success
	file    *FileReport
	stateAt time.Time
	stale   bool // state.json is behind
}

func (w *worker) newStretch(ctx context.Context, rt runtime.Runtime) *stretch {
	s := &stretch{
		w: w, rt: rt, tasks: lifecycle.NewTasks(ctx),
		exit: make(chan runtime.Exit, 1), read: make(chan error, 1),
		files: newReportDir(w.reportDir()), stateAt: time.Now(), stale: true,
	}
	// The tasks outlast moves of the machine, which replace w.entry.
	handle, log := w.entry.Handle, w.log
	s.tasks.Go("logs", func(ctx context.Context) { s.read <- w.readLog(ctx, rt, handle, log) })
	s.tasks.Go("wait", func(ctx context.Context) {
		err := w.sup.forever(ctx, "wait for attempt "+string(w.id), func() error {
			exit, err := rt.Wait(ctx, handle)
			if err == nil {
				s.exit <- exit
			}
			return err
		})
		if err != nil {
			return // the agent stops, or has seen enough
		}
	})
	return s
}

// end stops what watches; user code is not touched.
func (s *stretch) end() {
	if err := s.tasks.Stop(); err != nil {
		s.w.rlog.Error("a watcher failed", "error", err)
	}
}

// spoolError marks a failure of the agent's own disk.
type spoolError struct{ error }

func (e *spoolError) Unwrap() error { return e.error }

// spool tells failures of the log from those of the runtime.
type spool struct{ Log }

func (s spool) Write(r runtime.Record) error {
	if err := s.Log.Write(r); err != nil {
		return &spoolError{err}
	}
	return nil
}

// readLog reads the runtime's log to its end, through failures of the runtime.
func (w *worker) readLog(ctx context.Context, rt runtime.Runtime, handle runtime.Handle, log Log) error {
	var bad *spoolError
	err := w.sup.forever(ctx, "read the log of attempt "+string(w.id), func() error {
		err := rt.Logs(ctx, handle, log.Cursor(), spool{log})
		if errors.As(err, &bad) {
			return nil // no repetition helps
		}
		return err
	})
	if bad != nil {
		return bad
	}
	return err
}

// watch leads from started to stopping or ended.
func (w *worker) watch(ctx, wantCtx context.Context) error {
	rt, err := w.runtime()
	if err != nil {
		return w.finish(Outcome{State: ci.AttemptLost, Reason: ci.ReasonInfra, Message: err.Error()}, nil)
	}
	if !w.mayRun && wantCtx.Err() != nil && ctx.Err() == nil {
		return w.finish(ofWant(w.unwanted()), nil) // just before it would have started
	}
	again := w.mayRun
	if again {
		if _, err := w.open(&w.entry); err != nil {
			return err
		}
	}
	if o, err := w.start(ctx, rt); o != nil || err != nil {
		if err != nil {
			return err
		}
		return w.finish(*o, nil)
	}
	s := w.newStretch(ctx, rt)
	defer s.end()
	if again {
		// What was put while no agent was there to see it.
		w.hint(reportName)
		w.hint(completeName)
	}
	verdict, exit, err := s.loop(ctx, wantCtx)
	switch {
	case err != nil:
		return err
	case exit == nil:
		return w.move(StageStopping, func(e *Entry) { e.Verdict, e.Report = verdict, s.file })
	}
	return s.exited(ctx, verdict, *exit)
}

// loop waits for the first thing that ends the step: its exit, or a verdict.
func (s *stretch) loop(ctx, wantCtx context.Context) (*Outcome, *runtime.Exit, error) {
	w := s.w
	limit, done := w.timeout()
	defer done()
	poll := time.NewTicker(reportPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case exit := <-s.exit:
			return nil, &exit, nil
		case err := <-s.read:
			if ctx.Err() != nil {
				return nil, nil, ctx.Err() // which is all that err says
			}
			if s.drained = true; err != nil {
				return &Outcome{State: ci.AttemptFailed, Reason: reasonOf(err), Message: err.Error()}, nil, nil
			}
			continue // the exit is about to be known
		case <-wantCtx.Done():
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			o := ofWant(w.unwanted())
			return &o, nil, nil
		case <-limit:
			step := w.entry.Assignment.Step
			w.log.Say("stopped: the step's timeout of %s is over", step.Timeout)
			return &Outcome{State: ci.AttemptTimedOut, Reason: ci.ReasonTimeout, Message: fmt.Sprintf("stopped after its timeout of %s", step.Timeout)}, nil, nil
		case <-poll.C:
			s.look()
			s.state(ctx)
		case <-w.poke:
			s.fetch(ctx)
		}
		if o, exit := s.reported(ctx); o != nil {
			return o, exit, nil
		}
	}
}

// timeout returns a channel that receives when the step's time is up. Time
// counts from the start, whoever was there to watch.
func (w *worker) timeout() (<-chan time.Time, func()) {
	limit := w.entry.Assignment.Step.Timeout
	if limit <= 0 {
		return nil, func() {}
	}
	t := time.NewTimer(limit - (w.sup.deps.Boottime() - w.entry.StartedFor))
	return t.C, func() { t.Stop() }
}

// reported returns a verdict when the step has said that it is over and that
// counts. The step gets a moment to go by itself.
func (s *stretch) reported(ctx context.Context) (*Outcome, *runtime.Exit) {
	if s.final == nil || s.w.entry.Assignment.Step.Completion == ci.CompletionExit {
		return nil, nil
	}
	o := Outcome{}
	o.State, o.Reason, o.Message = ofReport(*s.final)
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case exit := <-s.exit:
		return &o, &exit
	case <-timer.C:
	case <-ctx.Done():
	}
	return &o, nil // the verdict stands also when the agent stops here
}

// look reads what is new in the report folder.
func (s *stretch) look() {
	for _, p := range s.files.poll() {
		s.take(p.Report, &p.file)
	}
}

// fetch reads the reports that the step put through S3. What the store does
// not give now is asked for again.
func (s *stretch) fetch(ctx context.Context) {
	w := s.w
	w.mu.Lock()
	hints := w.hints
	w.hints = map[string]bool{}
	w.mu.Unlock()
	for name := range hints {
		short, cancel := context.WithTimeout(ctx, hintFetch)
		data, err := w.sup.deps.Store.GetReport(short, w.path.Key(name))
		cancel()
		switch {
		case ci.KindOf(err) == ci.NotFound:
			continue
		case err != nil:
			w.rlog.Debug("cannot read a report from the store yet", "name", name, "error", err)
			w.sup.later(w, name)
			continue
		}
		r, err := logpath.ParseReport(data)
		if err != nil {
			w.log.Say("$LOG_PATH/%s is not used: %v", name, err)
			continue
		}
		s.take(r, nil)
	}
}

// later asks for a report again, after a pause.
func (s *Supervisor) later(w *worker, name string) {
	w.tasks.Go("report", func(ctx context.Context) {
		if pause(ctx, time.Second) {
			w.hint(name)
		}
	})
}

func (s *stretch) take(r logpath.Report, file *FileReport) {
	if r.State.Final() && (s.final == nil || r.State == logpath.ReportFailed) {
		s.final, s.file = &r, file
	}
	s.last, s.stale = &r, true
	s.w.tell(func(p *Progress) { p.Progress, p.Note = r.Progress, r.Message })
}

// state puts state.json now and then, beside everything else.
func (s *stretch) state(ctx context.Context) {
	if !s.stale || time.Since(s.stateAt) < statePace {
		return
	}
	s.stateAt, s.stale = time.Now(), false
	w := s.w
	started := w.entry.StartedAt
	state := logpath.State{Attempt: w.id, Fence: w.entry.Assignment.Fence, State: ci.AttemptRunning.String(), StartedAt: &started, At: s.stateAt}
	if s.last != nil {
		state.Progress, state.Message = s.last.Progress, s.last.Message
	}
	s.tasks.Go("state", func(ctx context.Context) {
		if err := w.sup.deps.Store.PutState(ctx, w.path, state); err != nil {
			w.rlog.Debug("cannot put the live state", "error", err)
		}
	})
}
