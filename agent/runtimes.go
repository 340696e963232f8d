package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/runtime/docker"
	"github.com/slipway-ci/slipway/agent/runtime/process"
	"github.com/slipway-ci/slipway/agent/stepinit"
	"github.com/slipway-ci/slipway/agent/stepinit/embedded"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/dirlock"
)

// dockerWait is how long an engine may take to answer when the agent starts:
// both may start with the host.
const dockerWait = 15 * time.Second

// runtimes are the executors of an agent.
type runtimes struct {
	byExecutor map[string]runtime.Runtime
	docker     string // the engine's version, empty without one
	gateway    string // the host's address as containers see it
	engine     *docker.Runtime
}

// openRuntimes makes the executors that are configured. One that is configured
// and does not work is an error: the agent would take work that it cannot do.
func openRuntimes(ctx context.Context, cfg Config) (*runtimes, error) {
	r := &runtimes{byExecutor: map[string]runtime.Runtime{}}
	if cfg.has(ci.ExecutorProcess) {
		p, err := process.New(process.Config{Root: filepath.Join(cfg.Dir, "process"), Init: cfg.ProcessInit, Log: cfg.Log})
		if err != nil {
			return nil, err
		}
		r.byExecutor[ci.ExecutorProcess] = p
	}
	if !cfg.has(ci.ExecutorDocker) {
		return r, nil
	}
	pid1, err := containerInit(ctx, cfg.Dir)
	if err != nil {
		pid1 = ""
		cfg.Log.Warn("steps in containers run without an init: a shell at work does not hear SIGTERM, so that they end by SIGKILL after the grace", "error", err)
	}
	me := cfg.Identity.Identity()
	d, err := docker.New(docker.Config{Host: cfg.DockerHost, Cluster: me.Cluster, Agent: ci.AgentID(me.NodeID), Init: pid1, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	info, err := ping(ctx, d)
	if err == nil {
		r.docker = info.Version
		r.gateway, err = d.Gateway(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close(ctx))
	}
	r.byExecutor[ci.ExecutorDocker], r.engine = d, d
	return r, nil
}

// containerInit puts slipway-init into the agent's folder, for the engine to mount:
// the one of this build, else the one beside the program. The error says
// why there is none that works.
func containerInit(ctx context.Context, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	path, err := embedded.Extract(dir)
	if err == nil && path == "" {
		beside := stepinit.Find()[0]
		if filepath.Base(beside) != "slipway-init" {
			return "", errors.New("this build carries no slipway-init, and none lies beside it; `make build` makes both")
		}
		var program []byte
		if program, err = os.ReadFile(beside); err == nil {
			path, err = embedded.Place(program, dir)
		}
	}
	if err != nil {
		return "", err
	}
	return path, works(ctx, path)
}

// works tells why an init is none: it may be of another version, or lie on a file
// system without programs.
func works(ctx context.Context, path string) error {
	for try := 0; ; try++ {
		cmd := exec.CommandContext(ctx, path, stepinit.ExecVerb, "--")
		err := cmd.Run()
		switch {
		case cmd.ProcessState.ExitCode() == stepinit.ExecUnusable:
			return nil
		case errors.Is(err, syscall.ETXTBSY) && try < 20:
			// Forked while it was written: until its exec, that process has it open too.
			time.Sleep(50 * time.Millisecond)
		default:
			return errors.Join(fmt.Errorf("%s does not work here", path), err)
		}
	}
}

// ping waits for the engine.
func ping(ctx context.Context, d *docker.Runtime) (docker.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, dockerWait)
	defer cancel()
	for {
		info, err := d.Ping(ctx)
		if err == nil {
			return info, nil
		}
		select {
		case <-ctx.Done():
			return docker.Info{}, err
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// close lets go of the engine, and takes the steps' network away when no step
// is on it.
func (r *runtimes) close(ctx context.Context, cfg Config) {
	if r.engine == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := r.engine.Close(ctx); err != nil {
		cfg.Log.Warn("cannot clean up at the Docker engine", "error", err)
	}
}

// lock keeps a second agent out of the folder.
func lock(name string) (unlock func(), err error) {
	l, err := dirlock.Take(name)
	switch {
	case errors.Is(err, dirlock.ErrHeld):
		return nil, ci.Errorf(ci.Conflict, "cannot use the agent's folder %s: another agent does (%w)", filepath.Dir(name), err)
	case err != nil:
		return nil, ci.Errorf(ci.Invalid, "cannot use the agent's folder: %w", err)
	}
	return func() { _ = l.Release() }, nil // the end of the process does the same
}
