package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/id"
)

// errNotOurs means that the coordinator does not want this agent to run it.
var errNotOurs = errors.New("the attempt is not this agent's")

// prepare leads from taken to started. Everything up to the container is made
// while the accept is being committed; user code starts only after both.
func (w *worker) prepare(ctx, wantCtx context.Context) (over bool, err error) {
	next := w.entry
	if next.Token == "" {
		next.Token = id.Secret(32)
		next.S3.AccessKey, next.S3.SecretKey = id.New(), id.Secret(32)
	}
	var accept error // of the coordinator; decides over what the preparation met
	g, gctx := errgroup.WithContext(wantCtx)
	g.Go(func() error {
		accept = w.accept(gctx)
		return accept
	})
	var build error
	g.Go(func() error {
		build = w.build(gctx, &next)
		return build
	})
	_ = g.Wait() // both errors are looked at below
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(accept, errNotOurs):
		return false, w.end(Outcome{State: ci.AttemptCanceled, Dropped: true}, next)
	case wantCtx.Err() != nil:
		return false, w.end(ofWant(w.unwanted()), next)
	case build != nil && !errors.Is(build, context.Canceled):
		w.log.Say("cannot start: %v", build)
		return false, w.end(ofPrepare(build), next)
	case accept != nil || build != nil:
		return false, errors.Join(accept, build)
	}
	return false, w.move(StageStarted, func(e *Entry) {
		*e = next
		e.Stage = StageStarted
		e.StartedAt, e.StartedFor = time.Now(), w.sup.deps.Boottime()
	})
}

// accept returns nil once it is committed that this agent runs the attempt.
func (w *worker) accept(ctx context.Context) error {
	var run bool
	err := w.sup.forever(ctx, "accept attempt "+string(w.id), func() error {
		ok, want, err := w.sup.deps.Session.Accept(ctx, w.id, w.entry.Assignment.Fence)
		switch {
		case refused(err):
			w.rlog.Info("the attempt was taken back", "error", err)
			return nil
		case err != nil:
			return err
		case want != ci.WantRun:
			w.want(want, ci.ReasonNone)
		}
		run = ok
		return nil
	})
	if err != nil {
		return err
	}
	if want, _ := w.unwanted(); !run && want == ci.WantRun {
		return errNotOurs
	}
	if run {
		w.tell(func(p *Progress) { p.State = ci.AttemptPreparing })
	}
	return nil
}

// build makes everything that user code will need, and notes it in e.
func (w *worker) build(ctx context.Context, e *Entry) error {
	rt, err := w.runtime()
	if err != nil {
		return err
	}
	d, a := w.sup.deps, &e.Assignment
	say := func(line string) { w.log.Say("%s", line) }
	e.Workspace, err = d.Workspaces.Prepare(ctx, a, say)
	if err != nil {
		return because(ci.ReasonCheckout, fmt.Errorf("cannot check out: %w", err))
	}
	if len(a.Step.Caches) > 0 {
		// An exclusive volume that a failed try of this process still holds
		// would be waited for without end.
		d.Caches.Release(w.id, false)
		if e.Caches, err = d.Caches.Acquire(ctx, a, e.Workspace.Dir, say); err != nil {
			return because(ci.ReasonCache, err)
		}
	}
	if err := newReportDir(w.reportDir()).make(); err != nil {
		return err
	}
	folder, err := w.open(e)
	if err != nil {
		return err
	}
	env, refused := environment(envInput{
		Assignment: a, StepEnv: d.StepEnv, URL: apiURL(w.executor(), folder), Token: e.Token,
		ReportDir: w.reportDir(), Workspace: e.Workspace, S3: w.grantOf(e),
	})
	if len(refused) > 0 {
		w.log.Say("env: %s cannot be set by a workflow; the values of the fleet are used", names(refused))
	}
	e.Handle, err = rt.Prepare(ctx, specOf(e, w.dir(), w.reportDir(), folder, env))
	if err != nil {
		return because(ci.ReasonInfra, err)
	}
	w.tell(func(p *Progress) { p.ImageDigest = e.Handle.ImageDigest })
	return nil
}

// grantOf returns the S3 credentials that the step may see.
func (w *worker) grantOf(e *Entry) S3Grant {
	if w.sup.deps.S3 == nil || !e.Assignment.Step.S3 {
		return S3Grant{}
	}
	return e.S3
}

// open opens the doors of the step: its API and its S3 endpoint. Opening them
// again, also in a later process, opens the same ones.
func (w *worker) open(e *Entry) (apiFolder string, err error) {
	d := w.sup.deps
	if d.API != nil {
		if apiFolder, err = d.API.Add(&e.Assignment, e.Token, w.reportDir()); err != nil {
			return "", err
		}
	}
	if d.S3 != nil && e.Assignment.Step.S3 {
		if e.S3, err = d.S3.Add(w.id, w.executor(), w.path, e.S3); err != nil {
			return "", err
		}
	}
	return apiFolder, nil
}

// end leads to ended from before user code ran.
func (w *worker) end(o Outcome, next Entry) error {
	o.FinishedAt = time.Now()
	manifest, err := w.log.Manifest()
	if err != nil {
		w.rlog.Warn("cannot write out a log", "error", err)
	}
	return w.move(StageEnded, func(e *Entry) {
		*e = next
		e.Stage, e.Outcome, e.Manifest = StageEnded, &o, manifest
	})
}

// start lets user code run. An error is final: nothing runs.
func (w *worker) start(ctx context.Context, rt runtime.Runtime) (*Outcome, error) {
	ran := w.mayRun
	w.mayRun = true
	err := rt.Start(ctx, w.entry.Handle)
	switch {
	case err == nil:
		w.tell(func(p *Progress) {
			p.State, p.StartedAt, p.ImageDigest = ci.AttemptRunning, w.entry.StartedAt, w.entry.Handle.ImageDigest
		})
		return nil, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	w.log.Say("cannot start: %v", err)
	if ran {
		// It may have run before; what became of it nobody knows.
		return &Outcome{State: ci.AttemptLost, Reason: reasonOf(err), Message: err.Error()}, nil
	}
	o := ofPrepare(err)
	return &o, nil
}
