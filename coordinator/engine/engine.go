package engine

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
)

// Source is where the engine sees the state.
type Source interface {
	View() *state.View
	Watch() *state.Watcher
}

// StatusReader reads an attempt's final status from the bucket; false when
// there is none.
type StatusReader interface {
	Status(ctx context.Context, p logpath.Path) (logpath.Status, bool, error)
}

// Proposer puts commands through the log in the order in which they stand,
// together, and returns the error of each.
type Proposer interface {
	ProposeAll(ctx context.Context, cmds []state.Command) []error
}

// DefaultLostAfter is how long an agent may be silent before its attempts are
// given up.
const DefaultLostAfter = 3 * time.Minute

// Deps is what an engine works with.
type Deps struct {
	Source   Source
	Proposer Proposer
	Now      func() ci.ClusterTime // the leader's running cluster time
	NewID    func() string
	Status   StatusReader
	Root     string // s3://bucket/prefix/<cluster>, where logs and artifacts lie
	// LostAfter is DefaultLostAfter when zero.
	LostAfter time.Duration
	// Explain says why a queued step has no agent, for the message of one that
	// expires; it may be nil.
	Explain func(run ci.RunID, step string) string
	Log     *slog.Logger
}

// Engine drives all runs while its Run is called, which only the leader does.
type Engine struct{ d Deps }

// New returns an engine.
func New(d Deps) *Engine {
	if d.LostAfter == 0 {
		d.LostAfter = DefaultLostAfter
	}
	return &Engine{d: d}
}

// Run drives the runs until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	var g lifecycle.Group
	g.Add("advance", e.advance)
	g.Add("judge", e.judge)
	return g.Run(ctx)
}

// again is how long the engine waits before it repeats what was refused or did
// not reach the log. A change of the run wakes it earlier.
const again = time.Second

// advance is the loop around Advance: it looks at the runs that changed or
// whose time has come, and at nothing else.
func (e *Engine) advance(ctx context.Context) error {
	watch := e.d.Source.Watch()
	defer watch.Close()
	due := newDeadlines[ci.RunID]()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due.arm(timer, e.d.Now())
		var runs []ci.RunID
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			runs = due.take(e.d.Now())
		case <-watch.C():
			c := watch.Changed()
			runs = c.Runs
			if c.All {
				runs = active(e.d.Source.View())
			}
		}
		e.pass(ctx, runs, due)
	}
}

func active(v *state.View) []ci.RunID {
	var ids []ci.RunID
	v.ActiveRuns(func(r *ci.Run) bool {
		ids = append(ids, r.ID)
		return true
	})
	return ids
}

// intent is an op that a run needs.
type intent struct {
	run ci.RunID
	op  state.Op
}

// pass advances the given runs by what they need now.
func (e *Engine) pass(ctx context.Context, runs []ci.RunID, due *deadlines[ci.RunID]) {
	v, now := e.d.Source.View(), e.d.Now()
	var todo []intent
	for _, id := range runs {
		r := v.Run(id)
		if r == nil {
			due.set(id, 0)
			continue
		}
		ops, next := Advance(r, now, func() ci.AttemptID { return ci.AttemptID(e.d.NewID()) })
		due.set(id, next)
		for _, op := range ops {
			todo = append(todo, intent{id, e.explained(op)})
		}
	}
	for i, err := range e.propose(ctx, todo) {
		if err != nil {
			due.earlier(todo[i].run, e.d.Now().Add(again))
		}
	}
}

// explained adds to the end of an expired step why no agent took it.
func (e *Engine) explained(op state.Op) state.Op {
	end, ok := op.(*state.EndStep)
	if !ok || end.State != ci.StepExpired || e.d.Explain == nil {
		return op
	}
	if why := e.d.Explain(end.Run, end.Step); why != "" {
		c := *end
		c.Message += ": " + why
		return &c
	}
	return op
}

// maxInFlight bounds the commands that wait for the log at once. They travel
// together in few entries.
const maxInFlight = 512

// propose puts the ops through the log and returns the error of each. Nobody
// may see a step queued before the end of the one that it waited for: its
// outputs would not be there yet.
func (e *Engine) propose(ctx context.Context, todo []intent) []error {
	errs := make([]error, 0, len(todo))
	for part := range slices.Chunk(todo, maxInFlight) {
		cmds := make([]state.Command, len(part))
		for i, t := range part {
			cmds[i] = state.Command{Actor: ci.System, Op: t.op}
		}
		for i, err := range e.d.Proposer.ProposeAll(ctx, cmds) {
			if err != nil && ctx.Err() == nil {
				e.refused(ctx, part[i], err)
			}
			errs = append(errs, err)
		}
	}
	return errs
}

// refused logs what did not go through. A conflict is everyday life: the state
// had moved on.
func (e *Engine) refused(ctx context.Context, t intent, err error) {
	level := slog.LevelWarn
	if ci.KindOf(err) == ci.Conflict {
		level = slog.LevelDebug
	}
	e.d.Log.Log(ctx, level, "cannot advance run", "run", t.run, "op", t.op.Name(), "error", err)
}
