package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

// ship leads from ended to shipped. Three things go on beside each other: the
// coordinator hears the outcome, so that what follows can start; the container
// goes; and the bucket gets the rest.
func (w *worker) ship(ctx context.Context) error {
	o := *w.entry.Outcome
	w.tell(func(p *Progress) {
		if p.State != 0 {
			p.State = ci.AttemptReporting
		}
	})
	shipped := w.entry
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		switch {
		case o.Dropped:
			return nil
		case o.State == ci.AttemptRejected:
			return w.report(gctx, PhaseRejected, o)
		default:
			return w.report(gctx, PhaseExited, o)
		}
	})
	g.Go(func() error { return w.remove(gctx, o) })
	g.Go(func() error {
		if o.Dropped {
			return nil
		}
		return w.upload(gctx, &shipped)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return w.move(StageShipped, func(e *Entry) {
		*e = shipped
		e.Stage = StageShipped
	})
}

// remove takes the step off the host: its container, its doors, its caches.
func (w *worker) remove(ctx context.Context, o Outcome) error {
	if err := w.sup.forever(ctx, "remove attempt "+string(w.id), func() error { return w.removeOnce(ctx) }); err != nil {
		return err
	}
	d := w.sup.deps
	if d.S3 != nil {
		d.S3.Remove(w.id)
	}
	if d.API != nil {
		if err := d.API.Remove(w.id); err != nil {
			w.rlog.Warn("cannot close a step's API", "error", err)
		}
	}
	d.Caches.Release(w.id, o.State == ci.AttemptSucceeded)
	w.removed = true
	return nil
}

func (w *worker) removeOnce(ctx context.Context) error {
	rt := w.sup.deps.Runtimes[w.executor()]
	if rt == nil {
		return nil // then nothing was made
	}
	handle := w.entry.Handle
	if handle == (runtime.Handle{}) {
		// Prepare did not come back; it may have made something all the same.
		handle.Attempt = w.id
	}
	return rt.Remove(ctx, handle)
}

// upload brings what the attempt leaves to the bucket, status.json last: once
// it is there, everything else is.
func (w *worker) upload(ctx context.Context, e *Entry) error {
	d := w.sup.deps
	if err := w.artifacts(ctx, e); err != nil {
		return err
	}
	if e.Report != nil {
		if err := d.Store.PutReport(ctx, w.path.Key(e.Report.Name), e.Report.Data); err != nil {
			return err
		}
	}
	manifest, err := w.log.Finish(ctx)
	if err != nil {
		return err
	}
	e.Manifest = manifest
	return d.Store.PutStatus(ctx, w.path, statusOf(e))
}

// artifacts collects what the step wants kept. Artifacts that cannot be kept
// fail a step that passed: what follows would miss them.
func (w *worker) artifacts(ctx context.Context, e *Entry) error {
	o := *e.Outcome
	var specs []ci.ArtifactSpec
	for _, spec := range e.Assignment.Step.Artifacts {
		if wants(spec.When, o.State == ci.AttemptSucceeded) {
			specs = append(specs, spec)
		}
	}
	if len(specs) == 0 || e.Workspace.Dir == "" || e.StartedAt.IsZero() {
		return nil
	}
	found, err := w.sup.deps.Store.Artifacts(ctx, w.path, e.Workspace.Dir, specs, w.log.Say)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e.Artifacts = found
	if err != nil {
		w.log.Say("%v", err)
		if o.State == ci.AttemptSucceeded {
			o.State, o.Reason, o.Message = ci.AttemptFailed, ci.ReasonArtifactUpload, err.Error()
			e.Outcome = &o
		}
	}
	return nil
}

// wants reports whether artifacts kept "when" are kept now.
func wants(when string, passed bool) bool {
	switch when {
	case "always":
		return true
	case "failed":
		return !passed
	default:
		return passed
	}
}

func statusOf(e *Entry) logpath.Status {
	o := e.Outcome
	s := logpath.Status{
		Attempt: e.Assignment.Attempt, Fence: e.Assignment.Fence, State: o.State.String(),
		Reason: o.Reason, Message: o.Message, FinishedAt: o.FinishedAt, ImageDigest: e.Handle.ImageDigest,
		Log: logpath.NewLogStatus(e.Manifest), Outputs: map[string]string{}, Artifacts: []logpath.ArtifactStatus{},
	}
	if o.Exited {
		code := o.ExitCode
		s.ExitCode = &code
	}
	if !e.StartedAt.IsZero() {
		at := e.StartedAt
		s.StartedAt = &at
	}
	for k, v := range o.Outputs {
		s.Outputs[k] = v
	}
	for _, a := range e.Artifacts {
		s.Artifacts = append(s.Artifacts, logpath.ArtifactStatus{Path: a.Path, Size: a.Size, SHA256: a.SHA256})
	}
	return s
}

// conclude leads from shipped to the end: once the final report is committed,
// nothing of the attempt remains on the host.
func (w *worker) conclude(ctx context.Context) error {
	o := *w.entry.Outcome
	if !o.Dropped && o.State != ci.AttemptRejected {
		if err := w.report(ctx, PhaseFinal, o); err != nil {
			return err
		}
	}
	if !w.removed { // by this process: caches and workspace were adopted
		if err := w.remove(ctx, o); err != nil {
			return err
		}
	}
	if err := w.tasks.Stop(); err != nil {
		w.rlog.Error("an attempt's task failed", "error", err)
	}
	w.closeLog()
	b := patience()
	for n := 1; ; n++ {
		err := errors.Join(w.sup.deps.Workspaces.Release(w.id), os.RemoveAll(w.dir()))
		if err == nil {
			break
		}
		if n == 3 {
			// Its folder is swept when the agent starts; the attempt must not
			// stay for that.
			w.rlog.Warn("cannot delete what an attempt left", "error", err)
			break
		}
		if !pause(ctx, b.NextBackOff()) {
			return fmt.Errorf("cannot clean up attempt %s: %w", w.id, context.Cause(ctx))
		}
	}
	w.rlog.Info("attempt over", "outcome", o.State, "reason", o.Reason, "took", time.Since(w.entry.StartedAt).Round(time.Millisecond))
	return w.sup.journal.Remove(w.id)
}
