package supervisor

import (
	"path/filepath"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
)

const (
	// A container finds the step API in this folder, whatever its host path.
	apiTarget    = "/.slipway"
	apiSocket    = "api.sock"
	dockerSocket = "/var/run/docker.sock"
)

// executorOf returns what runs the step: what it says, else docker for a step
// with an image.
func executorOf(s *ci.Step) string {
	switch {
	case s.Executor != "":
		return s.Executor
	case s.Image != "":
		return ci.ExecutorDocker
	default:
		return ci.ExecutorProcess
	}
}

// apiURL is SLIPWAY_URL of a step whose API socket lies in folder.
func apiURL(executor, folder string) string {
	if folder == "" {
		return ""
	}
	if executor == ci.ExecutorDocker {
		folder = apiTarget
	}
	return "unix://" + filepath.Join(folder, apiSocket)
}

// specOf says what a runtime shall run. Workspace and report folder have the
// same path inside and outside, so that sibling containers can mount them too.
func specOf(e *Entry, dir, reportDir, apiFolder string, env []string) runtime.Spec {
	a, step := &e.Assignment, &e.Assignment.Step
	docker := executorOf(step) == ci.ExecutorDocker
	s := runtime.Spec{
		Attempt: a.Attempt, Tenant: a.Tenant, Run: a.Run, Step: step.ID,
		Image: step.Image, Pull: step.Pull,
		Script: step.Run, Shell: step.Shell, Command: step.Command,
		Env: env, WorkDir: e.Workspace.Dir, Resources: step.Resources, StopSignal: step.CancelSignal,
		Dir:      dir,
		Mounts:   []runtime.Mount{same(e.Workspace.Dir, false), same(reportDir, false)},
		Writable: []string{e.Workspace.Dir},
	}
	if docker && step.Run == "" && len(step.Command) == 0 {
		s.WorkDir = "" // the image's own entry point expects the image's own folder
	}
	if e.Workspace.Mirror != "" {
		s.Mounts = append(s.Mounts, same(e.Workspace.Mirror, true))
	}
	for _, c := range e.Caches {
		target := c.Target
		if !filepath.IsAbs(target) {
			target = filepath.Join(e.Workspace.Dir, target)
		}
		s.Mounts = append(s.Mounts, runtime.Mount{Source: c.Source, Target: target})
		s.Writable = append(s.Writable, c.Source)
	}
	if apiFolder != "" && docker {
		s.Mounts = append(s.Mounts, runtime.Mount{Source: apiFolder, Target: apiTarget})
	}
	if docker && step.Docker == ci.DockerRaw {
		// The coordinator assigns such a step only to a tenant with the grant.
		s.Mounts = append(s.Mounts, same(dockerSocket, false))
	}
	return s
}

func same(path string, readOnly bool) runtime.Mount {
	return runtime.Mount{Source: path, Target: path, ReadOnly: readOnly}
}
