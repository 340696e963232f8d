//go:build e2e

package docker_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/runtime/docker"
	"github.com/slipway-ci/slipway/agent/runtime/runtimetest"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/needs"
)

// engine is a private dockerd.
type engine struct {
	t    *testing.T
	dir  string
	args []string
	cmd  *exec.Cmd
	out  bytes.Buffer
}

func newEngine(t *testing.T, args ...string) *engine {
	t.Helper()
	needs.Root(t)
	dockerd := needs.Program(t, "dockerd")
	runtimetest.NeedImage(t)
	dir, err := os.MkdirTemp("", "slipway-engine-")
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, dir: dir, args: append([]string{
		dockerd, "--data-root", dir + "/data", "--exec-root", dir + "/exec",
		"--pidfile", dir + "/pid", "--host", e2eHost(dir), "--bridge=none", "--iptables=false",
	}, args...)}
	t.Cleanup(func() {
		e.end(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("dockerd:\n%s", e.out.String())
		}
		unmount(dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	e.begin()
	save := exec.Command("docker", "save", runtimetest.Image)
	load := exec.Command("docker", "-H", e2eHost(dir), "load")
	if load.Stdin, err = save.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(save.Start(), load.Run(), save.Wait()); err != nil {
		t.Fatal(err)
	}
	return e
}

// unmount takes away what a killed engine left mounted, the deepest first.
func unmount(dir string) {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	var points []string
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			points = append(points, f[1])
		}
	}
	slices.Sort(points)
	for _, p := range slices.Backward(points) {
		_ = syscall.Unmount(p, unix.MNT_DETACH)
	}
}

func e2eHost(dir string) string { return "unix://" + filepath.Join(dir, "d.sock") }

func (e *engine) begin() {
	e.t.Helper()
	// A killed engine's containerd dies with it, but may stay a zombie where
	// nobody reaps orphans, which the next engine takes for a living one.
	for _, name := range []string{"containerd.pid", "containerd.sock"} {
		_ = os.Remove(filepath.Join(e.dir, "exec", "containerd", name))
	}
	e.cmd = exec.Command(e.args[0], e.args[1:]...)
	e.cmd.Stderr = &e.out
	// A network namespace of its own: an engine told to have no default bridge
	// deletes docker0, whosever it is.
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	for end, tick := time.After(time.Minute), time.Tick(100*time.Millisecond); ; {
		if exec.Command("docker", "-H", e2eHost(e.dir), "version").Run() == nil {
			return
		}
		select {
		case <-tick:
		case <-end:
			e.t.Fatal("the private engine does not answer")
		}
	}
}

func (e *engine) end(sig syscall.Signal) {
	if e.cmd == nil {
		return
	}
	_ = e.cmd.Process.Signal(sig)
	_ = e.cmd.Wait()
	e.cmd = nil
}

// An engine that is restarted takes its containers along, or, with live restore,
// does not; either way the truth is told.
func TestE2EEngineRestart(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		sig  syscall.Signal
		live bool
	}{
		{"TERM", nil, syscall.SIGTERM, false},
		{"KILL", nil, syscall.SIGKILL, false},
		{"KILL with live restore", []string{"--live-restore"}, syscall.SIGKILL, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, tt.args...)
			cfg := fleet()
			cfg.Host = e2eHost(e.dir)
			r, err := docker.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			work := t.TempDir()
			h := start(t, r, runtime.Spec{
				Image: runtimetest.Image, WorkDir: "/w", Mounts: []runtime.Mount{{Source: work, Target: "/w"}},
				Script: "echo before; touch up; while [ ! -e go ]; do sleep 0.1; done; echo after; exit 5",
			})
			t.Cleanup(func() {
				if err := errors.Join(r.Remove(t.Context(), h), r.Close(t.Context())); err != nil && t.Context().Err() == nil {
					t.Error(err)
				}
			})
			var out text
			var end runtime.Exit
			var g errgroup.Group
			g.Go(func() error { return r.Logs(t.Context(), h, "", &out) })
			g.Go(func() (err error) { end, err = r.Wait(t.Context(), h); return err })
			// The user's code must be running, and with it Wait is waiting.
			for end, tick := time.After(time.Minute), time.Tick(20*time.Millisecond); ; {
				if _, err := os.Stat(work + "/up"); err == nil {
					break
				}
				select {
				case <-tick:
				case <-end:
					t.Fatal("the step does not start")
				}
			}
			e.end(tt.sig)
			e.begin()
			if err := os.WriteFile(work+"/go", nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if tt.live && (end.Code != 5 || end.Reason != "" || out.String() != "before\nafter\n") {
				t.Errorf("exit %+v, log %q, want code 5 and a whole log", end, out.String())
			}
			if !tt.live && end.Reason != ci.ReasonDockerRestarted {
				t.Errorf("exit %+v, want reason docker_restarted", end)
			}
		})
	}
}
