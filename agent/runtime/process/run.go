package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/stepinit"
	"github.com/slipway-ci/slipway/shared/ci"
)

// Start spawns the init, which starts the step unless another did.
func (r *Runtime) Start(ctx context.Context, h runtime.Handle) error {
	dir, err := r.own(h)
	if err != nil {
		return err
	}
	if claimed, err := stepinit.Claimed(dir); err != nil || claimed {
		return err
	}
	s, err := readSpec(dir)
	if err != nil {
		return &runtime.Problem{Reason: ci.ReasonInfra, Err: err}
	}
	if err := link(s); err != nil {
		return err
	}
	if err := r.limit(dir, s); err != nil {
		return &runtime.Problem{Reason: ci.ReasonInfra, Err: err}
	}
	child, err := stepinit.Spawn(ctx, r.cfg.Init, dir)
	if child != nil {
		r.mu.Lock()
		r.children[h.Attempt] = append(r.children[h.Attempt], child)
		r.mu.Unlock()
	}
	if err != nil && ctx.Err() == nil {
		return diskProblem(err)
	}
	return err
}

// limit makes the control groups of a step and tells its init.
func (r *Runtime) limit(dir string, s runtime.Spec) error {
	made, err := r.groups.create(s)
	if err != nil {
		return fmt.Errorf("cannot limit the resources of step %s: %w", s.Step, err)
	}
	if len(made) == 0 {
		return nil
	}
	var spec stepinit.Spec
	if err := readFile(dir, stepinit.SpecFile, &spec); err != nil {
		return err
	}
	spec.Cgroups, spec.Unified = made, r.groups.unified
	return stepinit.WriteSpec(dir, spec)
}

// Wait returns the step's end as its init recorded it.
func (r *Runtime) Wait(ctx context.Context, h runtime.Handle) (runtime.Exit, error) {
	dir, err := r.own(h)
	if err != nil {
		return runtime.Exit{}, err
	}
	w, err := stepinit.OpenWatch(dir)
	if missing(err) {
		return removed(), nil
	}
	if err != nil {
		return runtime.Exit{}, err
	}
	_, err = w.Gone(ctx, -1)
	if err = errors.Join(err, w.Close()); err != nil {
		return runtime.Exit{}, err
	}
	claimed, err := stepinit.Claimed(dir)
	if err != nil {
		return runtime.Exit{}, err
	}
	e, ok, err := stepinit.ReadExit(dir)
	switch {
	case err != nil:
		return runtime.Exit{}, err
	case ok:
		r.reap(h.Attempt)
		return exit(e), nil
	case !exists(dir):
		return removed(), nil
	case !claimed:
		return runtime.Exit{}, ci.Errorf(ci.Conflict, "cannot wait for attempt %s: it was not started", h.Attempt)
	}
	return r.lost(ctx, h.Attempt, dir)
}

func removed() runtime.Exit {
	return runtime.Exit{Code: -1, Reason: ci.ReasonInfra, At: time.Now(), Message: "the step's process was removed while it ran"}
}

// lost ends a step whose init was killed.
func (r *Runtime) lost(ctx context.Context, attempt ci.AttemptID, dir string) (runtime.Exit, error) {
	r.reap(attempt)
	e := runtime.Exit{
		Code: -1, Reason: ci.ReasonInfra, At: time.Now(),
		Message: "the init of the step's process was killed, so nobody knows how it ended; what it left was killed too",
	}
	id, known, err := stepinit.ReadIdentity(dir)
	if err != nil || !known {
		return e, err
	}
	boot, err := stepinit.BootID()
	if err == nil && boot != id.Boot {
		e.Message = "the host was restarted while the step ran"
		return e, nil
	}
	return e, errors.Join(err, r.sweep(ctx, dir, id))
}

func (r *Runtime) sweep(ctx context.Context, dir string, id stepinit.Identity) error {
	var spec stepinit.Spec
	if err := readFile(dir, stepinit.SpecFile, &spec); err != nil && !missing(err) {
		return err
	}
	for {
		n, err := stepinit.Sweep(id, spec.Cgroups)
		if err != nil || n == 0 {
			return err
		}
		if err := sleep(ctx, pollMin); err != nil {
			return err
		}
	}
}

func exit(e stepinit.Exit) runtime.Exit {
	out := runtime.Exit{Code: e.Code, At: e.At}
	switch {
	case e.Error != "":
		out.Message = e.Error
	case e.OOM && !e.Stopped:
		out.Reason, out.Message = ci.ReasonOOM, "the step used more memory than its limit"
	case e.Lost > 0:
		out.Message = fmt.Sprintf("%d bytes of output could not be written to the host's disk", e.Lost)
	case e.Signal != 0:
		out.Message = "ended by signal " + unix.SignalName(syscall.Signal(e.Signal))
	}
	return out
}

// Stop has the init end the step.
func (r *Runtime) Stop(ctx context.Context, h runtime.Handle, signal string, grace time.Duration) error {
	dir, err := r.own(h)
	if err != nil {
		return err
	}
	num, err := runtime.Signal(signal)
	if err != nil {
		return err
	}
	return r.stop(ctx, h.Attempt, dir, stepinit.Order{Signal: int(num), Grace: grace})
}

func (r *Runtime) stop(ctx context.Context, attempt ci.AttemptID, dir string, o stepinit.Order) error {
	if err := stepinit.Stop(ctx, dir, o); err != nil {
		return err
	}
	if _, ok, err := stepinit.ReadExit(dir); ok || err != nil {
		return err
	}
	if !exists(dir) {
		return nil
	}
	_, err := r.lost(ctx, attempt, dir)
	return err
}

// Remove kills what still runs and deletes the attempt's folder.
func (r *Runtime) Remove(ctx context.Context, h runtime.Handle) error {
	dir, err := r.own(h)
	if err != nil {
		return err
	}
	if err := r.stop(ctx, h.Attempt, dir, stepinit.Order{Signal: int(unix.SIGKILL)}); err != nil {
		return err
	}
	r.reap(h.Attempt)
	var spec stepinit.Spec
	if err := readFile(dir, stepinit.SpecFile, &spec); err != nil && !missing(err) {
		return err
	}
	if err := removeGroups(ctx, spec.Cgroups); err != nil {
		return err
	}
	// All at once first, so that nobody takes half a folder for a step.
	trash := filepath.Join(r.cfg.Root, trashPrefix+string(h.Attempt))
	if err := removeTree(trash); err != nil {
		return fmt.Errorf("cannot remove the folder of attempt %s: %w", h.Attempt, err)
	}
	if err := os.Rename(dir, trash); err != nil && !missing(err) {
		return fmt.Errorf("cannot remove the folder of attempt %s: %w", h.Attempt, err)
	}
	if err := removeTree(trash); err != nil {
		return fmt.Errorf("cannot remove the folder of attempt %s: %w", h.Attempt, err)
	}
	return nil
}

// trashPrefix begins the name of a folder on its way out; no attempt has a dot.
const trashPrefix = ".removed-"

// removeTree also removes folders that a step made unwritable: they are no
// obstacle to root, and to others only until they are opened up.
func removeTree(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	openUp(dir)
	return os.RemoveAll(dir)
}

// reap waits for inits that have ended, or are about to.
func (r *Runtime) reap(id ci.AttemptID) {
	r.mu.Lock()
	children := r.children[id]
	delete(r.children, id)
	r.mu.Unlock()
	for _, c := range children {
		if _, err := c.Wait(); err != nil {
			r.cfg.Log.Warn("cannot reap the init of a step", "attempt", id, "err", err)
		}
	}
}

func writeSpec(dir string, s runtime.Spec) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	// It may hold secrets in Env.
	return os.WriteFile(filepath.Join(dir, specFile), b, 0o600)
}

func readSpec(dir string) (runtime.Spec, error) {
	var s runtime.Spec
	err := readFile(dir, specFile, &s)
	return s, err
}

func readFile(dir, name string, v any) error {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("cannot read what was prepared in %s: %w", dir, err)
	}
	return nil
}

func exists(dir string) bool {
	_, err := os.Lstat(dir)
	return err == nil
}

func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// openUp makes every folder below dir one that its owner may empty.
func openUp(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
}
