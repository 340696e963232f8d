//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/needs"
)

// alive lists the processes that have the word on their command line.
func alive(t testing.TB, word string) []int {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, name := range names {
		cmdline, _ := os.ReadFile(name) // it may be gone by now
		if !bytes.Contains(cmdline, []byte("daemon\x00"+word)) && !bytes.Contains(cmdline, []byte("deaf\x00"+word)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// deafStep is a step that hears no signal, with three daemons in sessions of
// their own, one of them without its environment.
func deafStep(t testing.TB, executor, word, more string) string {
	return strings.TrimSuffix(inside(t, executor, "deaf", "deaf", word), " }\n") + ", cancel: { grace: 1s }" + more + " }\n"
}

// awaitDeaf waits until the step and its daemons run.
func (f *fleet) awaitDeaf(run, word string) {
	f.t.Helper()
	f.awaitLog(run+"/deaf", "not alone")
	f.eventually("four processes run", func() bool { return len(alive(f.t, word)) == 4 })
}

// TestE2ECancel ends steps that do not want to end.
func TestE2ECancel(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	for _, executor := range []string{"process", "docker"} {
		t.Run("a run in a "+executor, func(t *testing.T) {
			word := fmt.Sprintf("cancel-%s-%d", executor, os.Getpid())
			r := f.submit("timeout: 3m\nsteps:\n" + deafStep(t, executor, word, "") + `
  - { id: later, executor: process, checkout: false, run: "echo never" }
finally:
  - { id: sweep, executor: process, checkout: false, run: "echo state=$RUN_STATE" }
`)
			f.awaitDeaf(r.ID, word)
			f.must("runs", "cancel", r.ID, "-m", "changed my mind")
			r = f.wait(r.ID)
			if r.State != "canceled" || r.ExitCode != 3 || r.Reason != "canceled_user" || !strings.Contains(r.Message, "changed my mind") {
				t.Errorf("run %s (%s: %s), exit code %d", r.State, r.Reason, r.Message, r.ExitCode)
			}
			s := r.step(t, "deaf")
			if a := s.last(t); s.State != "canceled" || a.State != "canceled" || a.Reason != "canceled_user" || statusOf(t, f, a).State != "canceled" {
				t.Errorf("step %s, attempt %+v", s.State, a)
			}
			if later := r.step(t, "later"); later.State != "canceled" && later.State != "not_run" || len(later.Attempts) > 0 {
				t.Errorf("the step behind it is %+v", later)
			}
			if log := f.rawLog(r.ID + "/sweep"); log != "state=canceled\n" {
				t.Errorf("finally says %q", log)
			}
			if left := alive(t, word); len(left) > 0 {
				t.Errorf("processes %v live on", left)
			}
		})
		t.Run("a step in a "+executor, func(t *testing.T) {
			word := fmt.Sprintf("step-%s-%d", executor, os.Getpid())
			r := f.submit("timeout: 3m\nsteps:\n" + deafStep(t, executor, word, "") + `
  - { id: beside, needs: [], executor: process, checkout: false, run: "echo beside" }
`)
			f.awaitDeaf(r.ID, word)
			f.must("step", "cancel", r.ID+"/deaf")
			r = f.wait(r.ID)
			if r.State != "canceled" || r.ExitCode != 3 || r.step(t, "deaf").State != "canceled" || r.step(t, "beside").State != "passed" {
				t.Errorf("run %s (exit code %d): %+v", r.State, r.ExitCode, r.Steps)
			}
			if left := alive(t, word); len(left) > 0 {
				t.Errorf("processes %v live on", left)
			}
		})
	}
	f.nothingLeft()
}

// TestE2ETimeout lets steps and runs run out of time.
func TestE2ETimeout(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	for _, executor := range []string{"process", "docker"} {
		t.Run("of a step in a "+executor, func(t *testing.T) {
			word := fmt.Sprintf("timeout-%s-%d", executor, os.Getpid())
			r := f.run("timeout: 3m\nsteps:\n" + deafStep(t, executor, word, ", timeout: 3s"))
			s := r.step(t, "deaf")
			a := s.last(t)
			if r.State != "timed_out" || r.ExitCode != 4 || s.State != "timed_out" || s.Reason != "timeout" || len(s.Attempts) != 1 {
				t.Errorf("run %s (exit code %d), step %+v", r.State, r.ExitCode, s)
			}
			if !strings.Contains(s.Message, "3s") || a.State != "timed_out" || statusOf(t, f, a).State != "timed_out" {
				t.Errorf("message %q, attempt %+v", s.Message, a)
			}
			if !strings.Contains(f.rawLog(r.ID+"/deaf"), "not alone") {
				t.Error("its log is lost")
			}
			if left := alive(t, word); len(left) > 0 {
				t.Errorf("processes %v live on", left)
			}
		})
	}
	t.Run("of a run", func(t *testing.T) {
		word := fmt.Sprintf("run-%d", os.Getpid())
		r := f.run("timeout: 4s\nsteps:\n" + deafStep(t, "process", word, "") + "\n  - { id: later, executor: process, run: echo never }\n")
		if r.State != "timed_out" || r.ExitCode != 4 || r.step(t, "deaf").State != "timed_out" || len(r.step(t, "later").Attempts) > 0 {
			t.Errorf("run %s (%s), exit code %d: %+v", r.State, r.Reason, r.ExitCode, r.Steps)
		}
		if left := alive(t, word); len(left) > 0 {
			t.Errorf("processes %v live on", left)
		}
	})
	t.Run("retried", func(t *testing.T) {
		r := f.run(`
timeout: 3m
steps:
  - id: slow
    executor: process
    checkout: false
    timeout: 2s
    cancel: { grace: 1s }
    run: if [ "$SLIPWAY_ATTEMPT" = 1 ]; then sleep 1000; fi
    retry: [{ on: [timeout], limit: 1, backoff: 1s }]
`)
		s := r.step(t, "slow")
		if r.State != "passed" || len(s.Attempts) != 2 || s.Attempts[0].State != "timed_out" || s.Attempts[1].State != "succeeded" {
			t.Errorf("run %s: %+v", r.State, s)
		}
	})
	f.nothingLeft()
}

// TestE2EDaemonsOfPassedSteps: what a step leaves running goes with it.
func TestE2EDaemonsOfPassedSteps(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	word := fmt.Sprintf("passed-%d", os.Getpid())
	needs.Image(t, busybox)
	r := f.passes(fmt.Sprintf(`
timeout: 3m
steps:
  - { id: process, needs: [], executor: process, checkout: false, run: "setsid %s daemon %s > /dev/null 2>&1 & echo done" }
  - { id: docker, needs: [], image: %q, pull: never, checkout: false, run: "setsid sleep 1000 & echo done" }
`, probe(t), word, busybox))
	for _, s := range r.Steps {
		if log := f.rawLog(r.ID + "/" + s.ID); log != "done\n" {
			t.Errorf("%s says %q", s.ID, log)
		}
	}
	f.eventually("its daemon is gone", func() bool { return len(alive(t, word)) == 0 })
	f.nothingLeft()
}

// TestE2ECancelAtAnyMoment cancels runs at many moments of their beginning:
// while an image is resolved, a container made, a process started.
func TestE2ECancelAtAnyMoment(t *testing.T) {
	t.Parallel()
	needs.Image(t, busybox)
	f := startFleet(t)
	yaml := fmt.Sprintf(`
timeout: 2m
defaults: { cancel: { grace: 1s } }
steps:
  - { id: process, needs: [], executor: process, checkout: false, run: "sleep 1000" }
  - { id: docker, needs: [], image: %q, pull: never, checkout: false, run: "sleep 1000" }
finally:
  - { id: last, executor: process, checkout: false, run: "echo $RUN_STATE" }
`, busybox)
	var runs []string
	for i := range 12 {
		r := f.submit(yaml)
		timer := time.NewTimer(time.Duration(i) * 50 * time.Millisecond)
		<-timer.C
		f.must("runs", "cancel", r.ID)
		runs = append(runs, r.ID)
	}
	for i, id := range runs {
		r := f.wait(id)
		if r.State != "canceled" || r.ExitCode != 3 || f.rawLog(id+"/last") != "canceled\n" {
			t.Errorf("canceled after %d ms: run %s (exit code %d): %+v", 50*i, r.State, r.ExitCode, r.Steps)
		}
	}
	f.nothingLeft()
}
