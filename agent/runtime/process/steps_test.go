package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/runtime/process"
	"github.com/slipway-ci/slipway/agent/stepinit"
	"github.com/slipway-ci/slipway/shared/ci"
)

type text struct{ strings.Builder }

func (o *text) Write(r runtime.Record) error {
	o.Builder.Write(r.Data)
	if !r.Partial {
		o.WriteByte('\n')
	}
	return nil
}

type sinkFunc func(runtime.Record) error

func (f sinkFunc) Write(r runtime.Record) error { return f(r) }

// prepare prepares the one step of a runtime.
func prepare(t testing.TB, r *process.Runtime, s runtime.Spec) runtime.Handle {
	t.Helper()
	if s.Attempt == "" {
		s.Attempt = "one"
	}
	if s.Dir == "" {
		s.Dir = t.TempDir()
	}
	h, err := r.Prepare(t.Context(), s)
	if err != nil {
		t.Fatalf("Prepare: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Remove(context.Background(), h); err != nil {
			t.Errorf("Remove: %v", err)
		}
	})
	return h
}

func start(t testing.TB, r *process.Runtime, s runtime.Spec) runtime.Handle {
	t.Helper()
	h := prepare(t, r, s)
	if err := r.Start(t.Context(), h); err != nil {
		t.Fatalf("Start: %v", err)
	}
	return h
}

func finish(t testing.TB, r *process.Runtime, h runtime.Handle) (string, runtime.Exit) {
	t.Helper()
	var out text
	if err := r.Logs(t.Context(), h, "", &out); err != nil {
		t.Errorf("Logs: %v", err)
	}
	e, err := r.Wait(t.Context(), h)
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	return out.String(), e
}

func problem(t testing.TB, err error, reason ci.Reason, words string) {
	t.Helper()
	var p *runtime.Problem
	if !errors.As(err, &p) || p.Reason != reason || !strings.Contains(err.Error(), words) {
		t.Errorf("error %v, want a problem with reason %s that says %q", err, reason, words)
	}
}

func TestMounts(t *testing.T) {
	t.Parallel()
	r := open(t, process.Config{Root: root(t)})
	work, cache, outside := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, work+"/escape"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(work+"/empty", 0o755), os.MkdirAll(work+"/taken/by", 0o755)); err != nil {
		t.Fatal(err)
	}
	spec := func(attempt, target string) runtime.Spec {
		return runtime.Spec{
			Attempt: ci.AttemptID(attempt), Script: "echo kept >> " + target + "/file", WorkDir: work,
			Mounts: []runtime.Mount{{Source: work, Target: work}, {Source: cache, Target: target}},
		}
	}
	for i, target := range []string{work + "/.cache/go", work + "/.cache/go", work + "/empty"} {
		h := start(t, r, spec(fmt.Sprint("fine", i), target))
		if out, e := finish(t, r, h); e.Code != 0 {
			t.Errorf("%s: %+v, %s", target, e, out)
		}
	}
	if b, err := os.ReadFile(cache + "/file"); err != nil || string(b) != "kept\nkept\nkept\n" {
		t.Errorf("the cache holds %q, %v", b, err)
	}
	for _, target := range []string{"/root/.cache/go", outside, work, work + "/../x"} {
		_, err := r.Prepare(t.Context(), spec("no", target))
		problem(t, err, ci.ReasonCache, "below its workspace")
	}
	for i, target := range []string{work + "/escape/x", work + "/taken"} {
		h := prepare(t, r, spec(fmt.Sprint("late", i), target))
		problem(t, r.Start(t.Context(), h), ci.ReasonCache, target)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("the host outside has %v, %v", entries, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	r := open(t, process.Config{Root: root(t)})
	_, err := r.Prepare(t.Context(), runtime.Spec{Attempt: "a", Image: "alpine", Script: "true"})
	problem(t, err, ci.ReasonInfra, "Docker")
	_, err = r.Prepare(t.Context(), runtime.Spec{Attempt: "a"})
	problem(t, err, ci.ReasonInfra, "entry point")
	for _, id := range []ci.AttemptID{"", "..", "a/b", "../../etc"} {
		if _, err := r.Prepare(t.Context(), runtime.Spec{Attempt: id, Script: "true"}); ci.KindOf(err) != ci.Invalid {
			t.Errorf("attempt %q: %v", id, err)
		}
		if err := r.Remove(t.Context(), runtime.Handle{Attempt: id}); ci.KindOf(err) != ci.Invalid {
			t.Errorf("Remove of attempt %q: %v", id, err)
		}
	}
	if _, err := process.New(process.Config{}); ci.KindOf(err) != ci.Invalid {
		t.Errorf("New without a folder: %v", err)
	}
	broken := open(t, process.Config{Root: root(t), Init: []string{"/no/such/init"}})
	h := prepare(t, broken, runtime.Spec{Script: "true"})
	problem(t, broken.Start(t.Context(), h), ci.ReasonInfra, "/no/such/init")
	h = start(t, r, runtime.Spec{Script: "true", WorkDir: "/no/such/dir"})
	if _, e := finish(t, r, h); e.Code != 127 || !strings.Contains(e.Message, "working directory") {
		t.Errorf("a missing working directory: %+v", e)
	}
	if err := r.Logs(t.Context(), h, "x", nil); ci.KindOf(err) != ci.Invalid {
		t.Errorf("Logs from a wrong cursor: %v", err)
	}
}

func identity(t testing.TB, h runtime.Handle) stepinit.Identity {
	t.Helper()
	id, ok, err := stepinit.ReadIdentity(h.ID)
	if err != nil || !ok {
		t.Fatalf("identity: %t, %v", ok, err)
	}
	return id
}

// An init that somebody killed makes an infrastructure failure, and nothing of
// the step runs on.
func TestInitKilled(t *testing.T) {
	t.Parallel()
	r := open(t, process.Config{Root: root(t)})
	h := start(t, r, runtime.Spec{Script: "sleep 600 & echo up; sleep 600"})
	id := identity(t, h)
	if err := unix.Kill(id.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e, err := r.Wait(t.Context(), h)
	if err != nil || e.Reason != ci.ReasonInfra || e.Code == 0 {
		t.Errorf("Wait = %+v, %v, want reason infra", e, err)
	}
	if n, err := stepinit.Sweep(id, nil); n != 0 || err != nil {
		t.Errorf("%d processes run on, %v", n, err)
	}
}

// After a restart of the host nothing is signalled by its old pid.
func TestOtherBoot(t *testing.T) {
	t.Parallel()
	r := open(t, process.Config{Root: root(t)})
	h := prepare(t, r, runtime.Spec{Script: "true"})
	if _, err := stepinit.Claim(h.ID); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"Pid": %d, "Start": 1, "Boot": "another", "Main": %d}`, os.Getpid(), os.Getpid())
	if err := os.WriteFile(filepath.Join(h.ID, "init.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := r.Wait(t.Context(), h)
	if err != nil || e.Reason != ci.ReasonInfra || !strings.Contains(e.Message, "host was restarted") {
		t.Errorf("Wait = %+v, %v", e, err)
	}
	if err := r.Stop(t.Context(), h, "", 0); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// TestAgentKilled kills a whole agent, with SIGKILL, under its running step. The
// agent is this test run again.
func TestAgentKilled(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("SLIPWAY_TEST_AGENT")
	if dir != "" {
		r := open(t, process.Config{Root: dir})
		h, err := r.Prepare(t.Context(), runtime.Spec{
			Attempt: "one", Dir: dir, WorkDir: dir,
			Script: "echo before; while [ ! -e go ]; do sleep 0.05; done; echo after; exit 5",
		})
		if err == nil {
			err = r.Start(t.Context(), h)
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	dir = root(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestAgentKilled$")
	cmd.Env = append(os.Environ(), "SLIPWAY_TEST_AGENT="+dir)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the agent ended with %v: %s", err, out)
	}
	r := open(t, process.Config{Root: dir})
	all, err := r.List(t.Context())
	h, ok := all["one"]
	if err != nil || !ok {
		t.Fatalf("List = %v, %v", all, err)
	}
	t.Cleanup(func() {
		if err := r.Remove(context.Background(), h); err != nil {
			t.Error(err)
		}
	})
	if err := r.Start(t.Context(), h); err != nil {
		t.Errorf("Start: %v", err)
	}
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, e := finish(t, r, h); out != "before\nafter\n" || e.Code != 5 {
		t.Errorf("%q, %+v", out, e)
	}
}

// A stop that gives up leaves the init to finish it.
func TestStopGivesUp(t *testing.T) {
	t.Parallel()
	r := open(t, process.Config{Root: root(t)})
	h := start(t, r, runtime.Spec{Script: "trap '' TERM; echo up; while :; do sleep 0.05; done"})
	errUp := errors.New("up")
	if err := r.Logs(t.Context(), h, "", sinkFunc(func(runtime.Record) error { return errUp })); !errors.Is(err, errUp) {
		t.Fatalf("Logs: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Stop(ctx, h, "SIGTERM", time.Hour); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop: %v", err)
	}
	// A second one may be in more of a hurry.
	if err := r.Stop(t.Context(), h, "SIGTERM", 0); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if _, e := finish(t, r, h); e.Code != 137 {
		t.Errorf("exit %+v", e)
	}
}

func BenchmarkStep(b *testing.B) {
	r := open(b, process.Config{Root: root(b)})
	dir := b.TempDir()
	var sink text
	for i := range b.N {
		h, err := r.Prepare(b.Context(), runtime.Spec{Attempt: ci.AttemptID(fmt.Sprint("b", i)), Script: "echo hi", Dir: dir})
		if err = errors.Join(err, r.Start(b.Context(), h), r.Logs(b.Context(), h, "", &sink)); err != nil {
			b.Fatal(err)
		}
		_, err = r.Wait(b.Context(), h)
		if err = errors.Join(err, r.Remove(b.Context(), h)); err != nil {
			b.Fatal(err)
		}
	}
}
