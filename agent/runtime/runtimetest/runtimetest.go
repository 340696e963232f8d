// Package runtimetest is the conformance suite of agent/runtime: whatever runs
// steps passes it.
package runtimetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/needs"
)

// Image is a small image with busybox; NeedImage makes it.
const Image = "slipway-test/busybox:latest"

// patience bounds every wait of the suite; the machine may be slow.
const patience = 90 * time.Second

// Harness is one implementation under test.
type Harness struct {
	// New returns an opener for one test. Every call of the opener gives a
	// runtime that knows what the earlier ones made, as after a restart of the
	// agent.
	New func(t *testing.T) (open func() runtime.Runtime)
	// Image is what steps run in; empty for processes.
	Image string
	// ExtraEnv names the variables that the runtime adds to Spec.Env.
	ExtraEnv []string
	// LossyUTF8 says that bytes which are not UTF-8 arrive as U+FFFD.
	LossyUTF8 bool
	// Limits names the resources that are limited here: memory, pids.
	Limits []string
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"exit codes", testExitCodes},
		{"cannot start", testCannotStart},
		{"environment", testEnvironment},
		{"stdin", testStdin},
		{"workdir", testWorkDir},
		{"argv", testArgv},
		{"shell", testShell},
		{"memory limit", testMemory},
		{"pids limit", testPids},
		{"wait", testWait},
		{"repeated calls", testRepeated},
		{"start twice", testStartTwice},
		{"start gate", testStartGate},
		{"list", testList},
		{"adoption", testAdoption},
		{"log bytes", testLogBytes},
		{"log of a burst", testBurst},
		{"log while running", testLive},
		{"log cursors", testCursors},
		{"log sink fails", testSinkFails},
		{"stop", testStop},
		{"stop a deaf tree", testStopDeaf},
		{"stop before start", testStopUnstarted},
		{"leftovers", testLeftovers},
		{"remove while running", testRemoveRunning},
		{"remove what was given up", testRemoveGivenUp},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			open := h.New(t)
			tt.run(t, &bench{T: t, Harness: h, open: open, rt: open()})
		})
	}
}

// NeedImage skips the test without Docker and makes Image unless it is there.
func NeedImage(t testing.TB) {
	t.Helper()
	needs.Docker(t)
	needs.Program(t, "docker")
	makeImage.Lock()
	defer makeImage.Unlock()
	if exec.Command("docker", "image", "inspect", Image).Run() == nil {
		return
	}
	script, err := filepath.Abs(filepath.Join(moduleRoot(t), "deploy", "test-images.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("bash", script).CombinedOutput(); err != nil {
		t.Fatalf("cannot make %s: %v\n%s", Image, err, out)
	}
}

var makeImage sync.Mutex

func moduleRoot(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatalf("cannot find the module: %v", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

// bench is what one test of the suite works with.
type bench struct {
	*testing.T
	Harness
	open func() runtime.Runtime
	rt   runtime.Runtime
}

// spec makes a spec with an attempt of its own; its Dir is seen by the step
// under the same path.
func (b *bench) spec(script string) runtime.Spec {
	b.Helper()
	dir, err := os.MkdirTemp("", "slipway-step-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Errorf("the step's folder stays: %v", err)
		}
	})
	// What runs as somebody else must get through.
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		b.Fatal(err)
	}
	return runtime.Spec{
		Attempt: ci.AttemptID("test-" + strings.ToLower(rand.Text())), Tenant: "default", Run: "run", Step: "step",
		Image: b.Image, Pull: ci.PullNever, Script: script, Dir: dir, WorkDir: work,
		Mounts: []runtime.Mount{{Source: dir, Target: dir}},
	}
}

func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	b.Cleanup(cancel)
	return ctx
}

// prepare prepares s and sees to it that nothing of it stays.
func (b *bench) prepare(s runtime.Spec) runtime.Handle {
	b.Helper()
	h, err := b.rt.Prepare(b.ctx(), s)
	if err != nil {
		b.Fatalf("Prepare: %v", err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.rt.Remove(ctx, h); err != nil {
			b.Errorf("Remove: %v", err)
		}
	})
	return h
}

func (b *bench) start(s runtime.Spec) runtime.Handle {
	b.Helper()
	h := b.prepare(s)
	if err := b.rt.Start(b.ctx(), h); err != nil {
		b.Fatalf("Start: %v", err)
	}
	return h
}

func (b *bench) wait(h runtime.Handle) runtime.Exit {
	b.Helper()
	e, err := b.rt.Wait(b.ctx(), h)
	if err != nil {
		b.Fatalf("Wait: %v", err)
	}
	return e
}

// run runs s to its end and returns how it ended and its output.
func (b *bench) run(s runtime.Spec) (runtime.Exit, *output) {
	b.Helper()
	h := b.start(s)
	out := b.logs(h, "")
	return b.wait(h), out
}

func (b *bench) logs(h runtime.Handle, since runtime.Cursor) *output {
	b.Helper()
	var out output
	if err := b.rt.Logs(b.ctx(), h, since, &out); err != nil {
		b.Fatalf("Logs: %v", err)
	}
	return &out
}

// aside runs f beside the test and returns a function that waits for its error.
func (b *bench) aside(f func() error) (wait func() error) {
	var g errgroup.Group
	g.Go(f)
	return g.Wait
}

// output is a sink that keeps everything.
type output struct {
	out, err bytes.Buffer
	records  []runtime.Record
	on       func(runtime.Record) error
}

func (o *output) Write(r runtime.Record) error {
	r.Data = slices.Clone(r.Data)
	o.records = append(o.records, r)
	to := &o.out
	if r.Stderr {
		to = &o.err
	}
	to.Write(r.Data)
	if !r.Partial {
		to.WriteByte('\n')
	}
	if o.on != nil {
		return o.on(r)
	}
	return nil
}

// mentions counts the host's processes whose command line has word.
func mentions(t testing.TB, word string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		// It may have ended meanwhile.
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(word)) {
			n++
		}
	}
	return n
}

// until polls for something that no event announces.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("%s: not after %s", what, patience)
		}
	}
}

func lines(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	return bytes.Count(b, []byte("\n"))
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func short(b []byte) string {
	if len(b) > 400 {
		return fmt.Sprintf("%q... (%d bytes)", b[:400], len(b))
	}
	return fmt.Sprintf("%q", b)
}
