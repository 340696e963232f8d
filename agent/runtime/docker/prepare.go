package docker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/stepinit"
	"github.com/slipway-ci/slipway/shared/ci"
)

const (
	// scriptTarget is where a step finds its script.
	scriptTarget = "/.slipway/script"
	// initTarget is pid 1 of a step.
	initTarget  = "/.slipway/init"
	gatewayName = "host.docker.internal"
	// initThreads are what the kernel counts of our init; the step has its whole
	// limit for itself.
	initThreads = 8
)

// initArgv comes before a step's own command.
var initArgv = []string{initTarget, stepinit.ExecVerb, "--"}

// Prepare fetches the image and creates the container. What lies in
// Spec.Writable by then is given to the image's user; what is put there later
// is not.
func (r *Runtime) Prepare(ctx context.Context, s runtime.Spec) (runtime.Handle, error) {
	if _, err := ref(runtime.Handle{Attempt: s.Attempt}); err != nil {
		return runtime.Handle{}, err
	}
	img, err := r.resolve(ctx, s.Image, s.Pull)
	if err != nil {
		return runtime.Handle{}, err
	}
	if err := own(s.Writable, img.user); err != nil {
		return runtime.Handle{}, infra(err, "give the step's folders to the image's user %s", img.user)
	}
	if s.Script != "" {
		if err := writeScript(s); err != nil {
			return runtime.Handle{}, infra(err, "write the script of step %s", s.Step)
		}
	}
	gateway, err := r.Gateway(ctx)
	if err != nil {
		return runtime.Handle{}, infra(err, "prepare step %s", s.Step)
	}
	cfg, host := r.container(s, img, gateway)
	made, err := r.create(ctx, s.Attempt, cfg, host)
	if errdefs.IsConflict(err) {
		return r.adopt(ctx, s.Attempt, err)
	}
	if err != nil {
		return runtime.Handle{}, infra(err, "create the container of step %s", s.Step)
	}
	r.memo(s.Attempt).fresh.Store(true)
	for _, w := range made.Warnings {
		r.cfg.Log.Debug("the engine warns", "attempt", s.Attempt, "warning", w)
	}
	return runtime.Handle{Attempt: s.Attempt, Runtime: Name, ID: made.ID, ImageDigest: img.digest}, nil
}

// create makes the container. An engine goes on making what it was asked for
// when the caller hangs up, so the call goes on too, and Remove waits for it:
// else the container would appear behind its back.
func (r *Runtime) create(ctx context.Context, id ci.AttemptID, cfg *container.Config, host *container.HostConfig) (container.CreateResponse, error) {
	type answer struct {
		made container.CreateResponse
		err  error
	}
	m, done := r.memo(id), make(chan answer, 1)
	if err := m.awaitCreate(ctx); err != nil {
		return container.CreateResponse{}, err
	}
	ok := r.creates.Go("create the container of attempt "+string(id), func(ctx context.Context) {
		defer func() { <-m.creating }()
		made, err := r.api.ContainerCreate(ctx, cfg, host, nil, nil, name(id))
		done <- answer{made, err}
	})
	if !ok {
		<-m.creating
		return container.CreateResponse{}, ci.Errorf(ci.Unavailable, "the agent is stopping")
	}
	select {
	case a := <-done:
		return a.made, a.err
	case <-ctx.Done():
		return container.CreateResponse{}, ctx.Err()
	}
}

// awaitCreate waits for the end of a create, and keeps the next from beginning.
func (m *memo) awaitCreate(ctx context.Context) error {
	select {
	case m.creating <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot wait until the container is made: %w", ctx.Err())
	}
}

// adopt takes the container that an earlier Prepare of the attempt made.
func (r *Runtime) adopt(ctx context.Context, id ci.AttemptID, conflict error) (runtime.Handle, error) {
	c, err := r.api.ContainerInspect(ctx, name(id))
	if err != nil {
		return runtime.Handle{}, infra(err, "look at the container of attempt %s", id)
	}
	if c.Config == nil || !r.ours(c.Config.Labels) || c.Config.Labels[LabelAttempt] != string(id) {
		return runtime.Handle{}, infra(conflict, "use a container that is not ours")
	}
	return handle(c.ID, c.Config.Labels), nil
}

func (r *Runtime) ours(labels map[string]string) bool {
	return labels[LabelCluster] == r.cfg.Cluster && labels[LabelAgent] == string(r.cfg.Agent)
}

func handle(id string, labels map[string]string) runtime.Handle {
	return runtime.Handle{
		Attempt: ci.AttemptID(labels[LabelAttempt]), Runtime: Name, ID: id, ImageDigest: labels[labelDigest],
	}
}

// container turns a spec into what the engine wants.
func (r *Runtime) container(s runtime.Spec, img found, gateway string) (*container.Config, *container.HostConfig) {
	cfg := &container.Config{
		// By id: the name may mean another image a moment later.
		Image: img.id, Env: s.Env, WorkingDir: s.WorkDir, StopSignal: s.StopSignal,
		Labels: map[string]string{
			LabelCluster: r.cfg.Cluster, LabelAgent: string(r.cfg.Agent), LabelTenant: string(s.Tenant),
			LabelRun: string(s.Run), LabelStep: s.Step, LabelAttempt: string(s.Attempt),
			labelImage: s.Image, labelDigest: img.digest,
		},
	}
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(r.cfg.Network),
		ExtraHosts:  []string{gatewayName + ":" + gateway},
		LogConfig: container.LogConfig{
			Type: "json-file", Config: map[string]string{"max-size": "256m", "max-file": "5"},
		},
		Resources: container.Resources{
			NanoCPUs: s.Resources.MilliCPU * 1e6,
			// The same for both: no swap.
			Memory: s.Resources.Memory, MemorySwap: s.Resources.Memory,
		},
	}
	if s.Resources.Pids > 0 {
		host.PidsLimit = &s.Resources.Pids
	}
	for _, m := range s.Mounts {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	argv := img.argv
	switch {
	case s.Script != "":
		shell := s.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-e"}
		}
		argv = append(slices.Clone(shell), scriptTarget)
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: scriptPath(s), Target: scriptTarget, ReadOnly: true})
	case len(s.Command) > 0:
		argv = s.Command
	}
	if len(argv) > 0 { // else the engine says what the image lacks
		r.command(argv, cfg, host)
	}
	return cfg, host
}

// command sets what the container runs, below our init where there is one.
func (r *Runtime) command(argv []string, cfg *container.Config, host *container.HostConfig) {
	if r.cfg.Init == "" {
		cfg.Entrypoint, cfg.Cmd = argv[:1], argv[1:]
		return
	}
	cfg.Entrypoint = append(slices.Clone(initArgv), argv...)
	host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: r.cfg.Init, Target: initTarget, ReadOnly: true})
	// An engine may be configured to add one of its own.
	host.Init = new(bool)
	if host.PidsLimit != nil {
		limit := *host.PidsLimit + initThreads
		host.PidsLimit = &limit
	}
}

func scriptPath(s runtime.Spec) string { return filepath.Join(s.Dir, "runtime", "script") }

func writeScript(s runtime.Spec) error {
	path := scriptPath(s)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(s.Script), 0o755); err != nil {
		return err
	}
	// The image's user need not be the agent's; umask must not matter.
	return os.Chmod(path, 0o755)
}

// List finds the containers of this cluster and agent.
func (r *Runtime) List(ctx context.Context) (map[ci.AttemptID]runtime.Handle, error) {
	all, err := r.api.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(
		filters.Arg("label", LabelCluster+"="+r.cfg.Cluster), filters.Arg("label", LabelAgent+"="+string(r.cfg.Agent)),
		filters.Arg("label", LabelAttempt))})
	if err != nil {
		return nil, fmt.Errorf("cannot list the containers of this agent: %w", err)
	}
	out := map[ci.AttemptID]runtime.Handle{}
	for _, c := range all {
		// Children of a step may carry its labels too; the name is the step's alone.
		h := handle(c.ID, c.Labels)
		for _, n := range c.Names {
			if n == "/"+name(h.Attempt) {
				out[h.Attempt] = h
			}
		}
	}
	return out, nil
}
