// Package process runs steps as processes of the host. There is no isolation: a
// step sees the host's files as the agent's own user does. It is the child of an
// init (package stepinit) that outlives the agent, so that an agent that
// restarts finds its steps again, with their output and their exit codes.
//
// A step's environment is Spec.Env exactly, and, only where Env has none of
// them: PATH and HOME of the agent, so that installed tools and their caches are
// found, and TMPDIR, a folder that goes with the attempt. Its control groups,
// where the agent may make any, hold it to its memory, cpu and pids; where it
// may not, limits are not kept, and Info says so.
package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/stepinit"
	"github.com/slipway-ci/slipway/shared/ci"
)

// Name is what the runtime's handles carry.
const Name = "process"

// The files of an attempt's folder that are not stepinit's.
const (
	specFile   = "step.json" // the runtime.Spec, for Start
	scriptFile = "script"
	tmpDir     = "tmp"
)

// Config is what the runtime needs.
type Config struct {
	// Root is a folder of this agent alone; every attempt has one below it.
	Root string
	// Init is the command line of an init; default stepinit.Find().
	Init []string
	// Cgroup is the folder below which control groups of version 2 are made, or
	// "-" to make none. Default: the agent's own groups.
	Cgroup string
	Log    *slog.Logger // default: nothing is logged
}

// Runtime runs steps as processes. It is a runtime.Runtime.
type Runtime struct {
	cfg    Config
	groups groups

	mu       sync.Mutex
	children map[ci.AttemptID][]*os.Process // inits that are ours to wait for
}

var _ runtime.Runtime = (*Runtime)(nil)

// New makes the runtime and its folder.
func New(cfg Config) (*Runtime, error) {
	if cfg.Root == "" {
		return nil, ci.Errorf(ci.Invalid, "cannot run processes: no folder is configured for them")
	}
	root, err := filepath.Abs(cfg.Root)
	if err == nil {
		err = os.MkdirAll(root, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make the folder of process steps: %w", err)
	}
	cfg.Root = root
	if err := tidy(root); err != nil {
		return nil, err
	}
	if len(cfg.Init) == 0 {
		cfg.Init = stepinit.Find()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Runtime{
		cfg: cfg, groups: findGroups(cfg.Cgroup),
		children: map[ci.AttemptID][]*os.Process{},
	}, nil
}

// tidy deletes what a crash left half removed.
func tidy(root string) error {
	entries, err := os.ReadDir(root)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), trashPrefix) {
			err = errors.Join(err, removeTree(filepath.Join(root, e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("cannot tidy the folder of process steps: %w", err)
	}
	return nil
}

// Info says what this host lets the runtime do.
type Info struct {
	Init   []string // command line of the inits
	Limits []string // which of cpu, memory, pids are kept; the others are not
	Reason string   // why not all of them
}

// Info says what this host lets the runtime do.
func (r *Runtime) Info() Info {
	return Info{Init: r.cfg.Init, Limits: r.groups.limits(), Reason: r.groups.reason}
}

// Prepare makes the attempt's folder; it starts nothing.
func (r *Runtime) Prepare(_ context.Context, s runtime.Spec) (runtime.Handle, error) {
	if s.Attempt == "" || strings.ContainsAny(string(s.Attempt), "/.") {
		return runtime.Handle{}, ci.Errorf(ci.Invalid, "cannot prepare an attempt with the id %q", s.Attempt)
	}
	h := runtime.Handle{Attempt: s.Attempt, Runtime: Name, ID: r.dir(s.Attempt)}
	if claimed, err := stepinit.Claimed(h.ID); err != nil || claimed {
		return h, err // it runs already, with what was prepared then
	}
	if s.Image != "" {
		return h, problem(ci.ReasonInfra, "cannot run image %s as a process: it needs an agent with Docker", s.Image)
	}
	if s.Script == "" && len(s.Command) == 0 {
		return h, problem(ci.ReasonInfra, "cannot run a process without `run` or `command`: only an image has an entry point")
	}
	if err := checkMounts(s); err != nil {
		return h, err
	}
	if err := write(h.ID, s); err != nil {
		return h, diskProblem(fmt.Errorf("cannot prepare the process of step %s: %w", s.Step, err))
	}
	return h, nil
}

func write(dir string, s runtime.Spec) error {
	if err := os.MkdirAll(filepath.Join(dir, tmpDir), 0o755); err != nil {
		return err
	}
	argv := s.Command
	if s.Script != "" {
		script := filepath.Join(dir, scriptFile)
		if err := os.WriteFile(script, []byte(s.Script), 0o755); err != nil {
			return err
		}
		shell := s.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-e"}
		}
		argv = append(shell[:len(shell):len(shell)], script)
	}
	spec := stepinit.Spec{Argv: argv, Env: environment(s.Env, dir), Dir: s.WorkDir}
	if spec.Dir == "" {
		spec.Dir = s.Dir
	}
	if err := stepinit.WriteSpec(dir, spec); err != nil {
		return err
	}
	return writeSpec(dir, s)
}

// environment adds to env the few variables that hardly any program does without.
func environment(env []string, dir string) []string {
	out := env[:len(env):len(env)]
	add := func(key, value string) {
		for _, kv := range env {
			if strings.HasPrefix(kv, key+"=") {
				return
			}
		}
		if value != "" {
			out = append(out, key+"="+value)
		}
	}
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	add("PATH", path)
	add("HOME", os.Getenv("HOME"))
	add("TMPDIR", filepath.Join(dir, tmpDir))
	return out
}

// List finds every attempt that has a folder.
func (r *Runtime) List(context.Context) (map[ci.AttemptID]runtime.Handle, error) {
	entries, err := os.ReadDir(r.cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("cannot list process steps: %w", err)
	}
	out := map[ci.AttemptID]runtime.Handle{}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			id := ci.AttemptID(e.Name())
			out[id] = runtime.Handle{Attempt: id, Runtime: Name, ID: r.dir(id)}
		}
	}
	return out, nil
}

func (r *Runtime) dir(id ci.AttemptID) string { return filepath.Join(r.cfg.Root, string(id)) }

// own gives the folder of a handle; handles come from a journal.
func (r *Runtime) own(h runtime.Handle) (string, error) {
	if h.Attempt == "" || strings.ContainsAny(string(h.Attempt), "/.") {
		return "", ci.Errorf(ci.Invalid, "cannot use the handle of attempt %q", h.Attempt)
	}
	return r.dir(h.Attempt), nil
}

func problem(reason ci.Reason, format string, args ...any) error {
	return &runtime.Problem{Reason: reason, Err: ci.Errorf(ci.Invalid, format, args...)}
}

// diskProblem tells a full disk from other failures of the host.
func diskProblem(err error) error {
	reason := ci.ReasonInfra
	if full(err) {
		reason = ci.ReasonDiskFull
	}
	return &runtime.Problem{Reason: reason, Err: err}
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
