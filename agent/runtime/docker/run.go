package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
)

// Start starts the container. A command that the image does not have is no
// error here: the step ends with 127 or 126, and Wait says so.
func (r *Runtime) Start(ctx context.Context, h runtime.Handle) error {
	id, err := ref(h)
	if err != nil {
		return err
	}
	m := r.memo(h.Attempt)
	m.start.Lock()
	defer m.start.Unlock()
	if m.stopping.Load() {
		return ci.Errorf(ci.Conflict, "cannot start attempt %s: it was stopped before", h.Attempt)
	}
	// The engine starts a container that has ended once more, without a word. So
	// unless we made it and never started it, look first.
	if !m.fresh.Swap(false) {
		c, err := r.api.ContainerInspect(ctx, id)
		if err != nil {
			return infra(err, "start attempt %s", h.Attempt)
		}
		if c.State == nil || c.State.Status != container.StateCreated {
			return nil
		}
	}
	err = r.api.ContainerStart(ctx, id, container.StartOptions{})
	if err != nil && strings.Contains(err.Error(), "network "+r.cfg.Network) {
		// It was deleted since, or there are two.
		r.forgetNetwork()
		if _, err := r.Gateway(ctx); err != nil {
			return infra(err, "start attempt %s", h.Attempt)
		}
		err = r.api.ContainerStart(ctx, id, container.StartOptions{})
	}
	if err == nil {
		m.started.Store(true)
		return nil
	}
	if c, inspectErr := r.api.ContainerInspect(ctx, id); inspectErr == nil && unstartable(c) {
		return nil
	}
	return infra(err, "start attempt %s", h.Attempt)
}

// Wait waits for the container, however often the engine goes away meanwhile.
func (r *Runtime) Wait(ctx context.Context, h runtime.Handle) (runtime.Exit, error) {
	id, err := ref(h)
	if err != nil {
		return runtime.Exit{}, err
	}
	var pause backoff
	// Waiting for a container that was never started would take for ever.
	look := !r.memo(h.Attempt).started.Load()
	for wasAway := false; ; {
		var err error
		if !look {
			err = r.gone(ctx, id)
		}
		var c container.InspectResponse
		if err == nil {
			c, err = r.api.ContainerInspect(ctx, id)
		}
		look = false
		var e runtime.Exit
		if err == nil && (c.State == nil || !c.State.Running) {
			if e, err = r.exit(ctx, h, c, wasAway); err == nil {
				r.memo(h.Attempt).end()
				return e, nil
			}
		}
		switch {
		case errdefs.IsNotFound(err):
			return removed(), nil
		case err != nil && !away(ctx, err):
			return e, err
		case err != nil:
			wasAway = true
			r.cfg.Log.Warn("the engine does not answer", "attempt", h.Attempt, "err", err)
		default:
			continue // it runs
		}
		if err := pause.wait(ctx); err != nil {
			return runtime.Exit{}, err
		}
	}
}

func removed() runtime.Exit {
	return runtime.Exit{Code: -1, Reason: ci.ReasonInfra, At: time.Now(), Message: "the step's container was removed while it ran"}
}

// gone waits until the container does not run.
func (r *Runtime) gone(ctx context.Context, id string) error {
	done, failed := r.api.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	// The end of ctx comes as an error too; not to take it from there would leak.
	select {
	case <-done:
		return nil
	case err := <-failed:
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
}

// exit tells how a container ended.
func (r *Runtime) exit(ctx context.Context, h runtime.Handle, c container.InspectResponse, wasAway bool) (runtime.Exit, error) {
	st := c.State
	if st == nil {
		return runtime.Exit{}, ci.Errorf(ci.Internal, "cannot read the state of attempt %s: the engine gives none", h.Attempt)
	}
	if unstartable(c) {
		return runtime.Exit{Code: st.ExitCode, At: time.Now(), Message: unstartableText(c, c.Path, st.Error)}, nil
	}
	if st.Status == container.StateCreated {
		return runtime.Exit{}, ci.Errorf(ci.Conflict, "cannot wait for attempt %s: it was not started", h.Attempt)
	}
	e := runtime.Exit{Code: st.ExitCode, Message: st.Error}
	var err error
	if e.At, err = time.Parse(time.RFC3339Nano, st.FinishedAt); err != nil {
		e.At = time.Now()
	}
	if e.Code == 0 || r.memo(h.Attempt).stopping.Load() {
		return e, nil
	}
	if st.OOMKilled {
		return oom(e), nil
	}
	if c.Path == initTarget && (e.Code == 126 || e.Code == 127) {
		return r.unstarted(ctx, e, c)
	}
	if e.Code != 137 && e.Code != 143 {
		return e, nil
	}
	if wasAway {
		e.Reason, e.Message = ci.ReasonDockerRestarted, "the Docker engine was restarted and took the step along"
		return e, nil
	}
	return r.killed(ctx, e, c)
}

func oom(e runtime.Exit) runtime.Exit {
	e.Reason, e.Message = ci.ReasonOOM, "the step used more memory than its limit"
	return e
}

// killed asks the engine's recent events who killed a container: old engines
// leave OOMKilled unset when the exit overtakes the news of it.
func (r *Runtime) killed(ctx context.Context, e runtime.Exit, c container.InspectResponse) (runtime.Exit, error) {
	started, err := time.Parse(time.RFC3339Nano, c.State.StartedAt)
	if err != nil {
		return e, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stamp := func(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
	msgs, errs := r.api.Events(ctx, events.ListOptions{
		Since: stamp(started), Until: stamp(time.Now()),
		Filters: filters.NewArgs(filters.Arg("container", c.ID), filters.Arg("event", "oom"), filters.Arg("event", "kill")),
	})
	outside := false
	for {
		select {
		case m := <-msgs:
			if m.Action == events.ActionOOM {
				e = oom(e)
			}
			outside = outside || m.Action == events.ActionKill
		case err := <-errs:
			if !errors.Is(err, io.EOF) && err != nil {
				return e, err
			}
			if e.Reason == "" && outside {
				if err := r.leaving(ctx); err != nil {
					return e, err
				}
				e.Reason = ci.ReasonInfra
				e.Message = "the container was killed from outside, through the Docker engine"
			}
			return e, nil
		}
	}
}

// leaving is an error when the engine takes no new callers: one that shuts down
// kills its containers while it still answers those that it has.
func (r *Runtime) leaving(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	api, err := r.connect()
	if err != nil {
		return err
	}
	_, err = api.Ping(ctx)
	return errors.Join(err, api.Close())
}

// Stop signals the container's first process, and kills the container after the
// grace; the kernel then ends all that is in it.
func (r *Runtime) Stop(ctx context.Context, h runtime.Handle, signal string, grace time.Duration) error {
	id, err := ref(h)
	if err != nil {
		return err
	}
	sig, err := runtime.Signal(signal)
	if err != nil {
		return err
	}
	r.memo(h.Attempt).stopping.Store(true)
	if sig != 9 && grace > 0 {
		if running, err := r.kill(ctx, id, strconv.Itoa(int(sig))); err != nil || !running {
			return err
		}
		within, cancel := context.WithTimeout(ctx, grace)
		err := r.untilGone(within, id)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	if running, err := r.kill(ctx, id, "SIGKILL"); err != nil || !running {
		return err
	}
	return r.untilGone(ctx, id)
}

// kill sends a signal and tells whether there was anything to send it to.
func (r *Runtime) kill(ctx context.Context, id, signal string) (running bool, err error) {
	for pause := (backoff{}); ; {
		err := r.api.ContainerKill(ctx, id, signal)
		switch {
		case err == nil:
			return true, nil
		case errdefs.IsNotFound(err), errdefs.IsConflict(err) && strings.Contains(err.Error(), "not running"):
			return false, nil
		case !away(ctx, err):
			return false, fmt.Errorf("cannot send signal %s to container %s: %w", signal, id, err)
		}
		if err := pause.wait(ctx); err != nil {
			return false, err
		}
	}
}

func (r *Runtime) untilGone(ctx context.Context, id string) error {
	for pause := (backoff{}); ; {
		err := r.gone(ctx, id)
		if err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		if !away(ctx, err) {
			return err
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}

// Remove kills and deletes the container with its anonymous volumes.
func (r *Runtime) Remove(ctx context.Context, h runtime.Handle) error {
	id, err := ref(h)
	if err != nil {
		return err
	}
	m := r.memo(h.Attempt)
	m.stopping.Store(true)
	if err := m.awaitCreate(ctx); err != nil {
		return err
	}
	defer func() { <-m.creating }()
	for pause := (backoff{}); ; {
		err := r.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
		if err == nil || errdefs.IsNotFound(err) {
			r.forget(h.Attempt)
			return nil
		}
		// A conflict is a removal that is under way already.
		if !away(ctx, err) && !errdefs.IsConflict(err) {
			return fmt.Errorf("cannot remove the container of attempt %s: %w", h.Attempt, err)
		}
		if err := pause.wait(ctx); err != nil {
			return fmt.Errorf("cannot remove the container of attempt %s: %w", h.Attempt, err)
		}
	}
}
