//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// TestE2ESkip lets steps stand aside, before and after the end of a run.
func TestE2ESkip(t *testing.T) {
	t.Parallel()
	control(t, map[string]func(*testing.T, *fleet){
		"a failed step":  skipFailed,
		"a waiting step": skipWaiting,
		"a running step": skipRunning,
		"refused":        skipRefused,
	})
}

func skipFailed(t *testing.T, f *fleet) {
	r := f.run(head + `
steps:
- { id: a, run: exit 0 }
- { id: lint, run: exit 1 }
- { id: b, run: 'echo "b ran"' }
finally:
- { id: report, run: 'echo "$RUN_STATE"' }
`)
	r.ends(t, 1, "a=passed lint=failed(exit_code) b=not_run(dependency_failed) report=passed")
	f.must("step", "skip", r.ID+"/lint", "-m", "the linter is down")
	r = f.wait(r.ID)
	r.ends(t, 0, "a=passed lint=skipped(skipped_by_user) b=passed report=passed")
	if r.tries() != "a=1 lint=1 b=1 report=2" || r.Round != 2 {
		t.Errorf("attempts %s, round %d", r.tries(), r.Round)
	}
	s := r.step(t, "lint")
	if s.SkippedBy != "token:admin" || s.Message != "the linter is down" || s.Attempts[0].State != "failed" {
		t.Errorf("the skipped step: by %q, message %q, attempt %s", s.SkippedBy, s.Message, s.Attempts[0].State)
	}
	if got := f.rawLog(r.ID+"/report#1") + f.rawLog(r.ID+"/report"); got != "failed\npassed\n" {
		t.Errorf("finally saw %q", got)
	}
	e := f.audit("--run", r.ID)[0]
	want := auditJSON{Index: e.Index, At: e.At, Actor: "token:admin", Action: "step.skip", Run: r.ID, Step: "lint", Reason: "the linter is down", Before: "failed", After: "skipped"}
	if e != want {
		t.Errorf("audit %+v, want %+v", e, want)
	}
	if out := f.must("step", "why", r.ID+"/lint").stdout; !strings.Contains(out, "admin skipped it: the linter is down") {
		t.Errorf("step why says\n%s", out)
	}
}

func skipWaiting(t *testing.T, f *fleet) {
	r := f.submit(head + `
steps:
- { id: queued, needs: [], queue: nobody, run: exit 1 }
- { id: pending, run: exit 1 }
- { id: b, run: echo b }
`)
	f.awaitStep(r.ID, "queued", "queued")
	f.must("step", "skip", r.ID+"/pending", "-m", "not today")
	if s := f.show(r.ID).step(t, "pending"); s.State != "skipped" {
		t.Errorf("the pending step is %s", s.State)
	}
	f.must("step", "skip", r.ID+"/queued", "-m", "no such queue")
	r = f.wait(r.ID)
	r.ends(t, 0, "queued=skipped(skipped_by_user) pending=skipped(skipped_by_user) b=passed")
}

func skipRunning(t *testing.T, f *fleet) {
	r := f.submit(head + "steps:\n- { id: slow, run: 'echo up; sleep 600', cancel: { grace: 1s } }\n- { id: b, run: echo b }\n")
	f.awaitLog(r.ID+"/slow", "up")
	f.must("step", "skip", r.ID+"/slow", "-m", "takes too long")
	r = f.wait(r.ID)
	r.ends(t, 0, "slow=skipped(skipped_by_user) b=passed")
	if a := r.step(t, "slow").last(t); a.State != "canceled" {
		t.Errorf("its attempt is %s, want canceled", a.State)
	}
}

func skipRefused(t *testing.T, f *fleet) {
	r := f.run(head + "steps:\n- { id: a, run: exit 0 }\n")
	f.code(2, []string{"without a reason", "-m"}, "step", "skip", r.ID+"/a")
	f.code(2, []string{"it is over (passed)"}, "step", "skip", r.ID+"/a", "-m", "x")
	f.code(5, []string{`no step "b"`}, "step", "skip", r.ID+"/b", "-m", "x")
	f.code(2, []string{"is over"}, "step", "cancel", r.ID+"/a")
	f.code(2, []string{"is over (passed)"}, "runs", "cancel", r.ID)
	if got := len(f.audit("--run", r.ID)); got != 1 {
		t.Errorf("%d entries in the audit, want that of the submit alone", got)
	}
}

// stubborn is a step that ignores SIGTERM and has children of its own.
const stubborn = `run: "trap '' TERM; for i in 1 2 3 4 5; do sleep 600 & done; echo up; while :; do sleep 1; done", cancel: { grace: 1s }`

// TestE2EStop ends runs and steps before their time.
func TestE2EStop(t *testing.T) {
	t.Parallel()
	control(t, map[string]func(*testing.T, *fleet){
		"a run":            cancelRun,
		"a run, hard":      cancelHard,
		"a run, harder":    cancelHarder,
		"a running step":   cancelRunning,
		"a waiting step":   cancelWaiting,
		"the run's time":   runTimeout,
		"the queue's":      queueTimeout,
		"while it retries": cancelBackoff,
	})
}

const cancelable = head + `
steps:
- { id: a, ` + stubborn + ` }
- { id: b, run: exit 0 }
finally:
- { id: report, run: 'echo "$RUN_STATE"' }
`

func cancelRun(t *testing.T, f *fleet) {
	r := f.submit(cancelable)
	f.awaitLog(r.ID+"/a", "up")
	asked := time.Now()
	f.must("runs", "cancel", r.ID, "-m", "wrong branch")
	r = f.wait(r.ID)
	t.Logf("a step that ignores SIGTERM, with a grace of 1 s, and the finally step: over %s after the cancel", time.Since(asked).Round(time.Millisecond))
	r.ends(t, 3, "a=canceled(canceled_user) b=canceled(canceled_user) report=passed")
	if r.State != "canceled" || r.Reason != "canceled_user" || r.Message != "wrong branch" {
		t.Errorf("the run is %s (%s: %s)", r.State, r.Reason, r.Message)
	}
	if got := f.rawLog(r.ID + "/report"); got != "canceled\n" {
		t.Errorf("finally saw %q", got)
	}
	if e := f.audit("--run", r.ID)[0]; e.Action != "run.cancel" || e.Reason != "wrong branch" || e.After != "canceling" {
		t.Errorf("audit %+v", e)
	}
	// A canceled run can be taken up again.
	f.must("runs", "retry", r.ID, "--step", "b")
	r = f.wait(r.ID)
	r.ends(t, 3, "a=canceled(canceled_user) b=passed report=passed")
}

func cancelHard(t *testing.T, f *fleet) {
	r := f.submit(cancelable)
	f.awaitLog(r.ID+"/a", "up")
	f.must("runs", "cancel", r.ID, "--hard")
	r = f.wait(r.ID)
	r.ends(t, 3, "a=canceled(canceled_user) b=canceled(canceled_user) report=canceled(canceled_user)")
}

// cancelHarder finds its patience at an end while a finally step runs.
func cancelHarder(t *testing.T, f *fleet) {
	r := f.submit(head + `
steps:
- { id: a, queue: nobody, run: exit 0 }
finally:
- { id: report, run: 'echo up; sleep 600', cancel: { grace: 1s } }
`)
	f.awaitStep(r.ID, "a", "queued")
	f.must("runs", "cancel", r.ID)
	f.awaitLog(r.ID+"/report", "up")
	f.must("runs", "cancel", r.ID, "--hard")
	f.wait(r.ID).ends(t, 3, "a=canceled(canceled_user) report=canceled(canceled_user)")
}

func cancelRunning(t *testing.T, f *fleet) {
	r := f.submit(head + `
steps:
- { id: a, needs: [], ` + stubborn + ` }
- { id: side, needs: [], run: exit 0 }
- { id: after, run: exit 0 }
finally:
- { id: report, run: 'echo "$RUN_STATE"' }
`)
	f.awaitLog(r.ID+"/a", "up")
	f.must("step", "cancel", r.ID+"/a", "-m", "hangs")
	r = f.wait(r.ID)
	r.ends(t, 3, "a=canceled(canceled_user) side=passed after=not_run(dependency_failed) report=passed")
	if e := f.audit("--run", r.ID)[0]; e.Action != "step.cancel" || e.Step != "a" || e.Reason != "hangs" {
		t.Errorf("audit %+v", e)
	}
}

func cancelWaiting(t *testing.T, f *fleet) {
	r := f.submit(head + "steps:\n- { id: a, queue: nobody, run: exit 0 }\n- { id: b, needs: [], run: exit 0 }\n")
	f.awaitStep(r.ID, "a", "queued")
	f.must("step", "cancel", r.ID+"/a")
	f.wait(r.ID).ends(t, 3, "a=canceled(canceled_user) b=passed")
}

func cancelBackoff(t *testing.T, f *fleet) {
	r := f.submit(head + "steps:\n- { id: a, run: exit 75, retry: [{ exit_codes: [75], limit: 3, backoff: 1h }] }\n")
	f.eventually("the first attempt is over", func() bool { return len(f.show(r.ID).step(t, "a").Attempts) == 2 })
	f.must("runs", "cancel", r.ID)
	r = f.wait(r.ID)
	r.ends(t, 3, "a=canceled(canceled_user)")
	if r.tries() != "a=2" || r.Steps[0].Attempts[1].State != "canceled" {
		t.Errorf("attempts %+v", r.Steps[0].Attempts)
	}
}

func runTimeout(t *testing.T, f *fleet) {
	r := f.run(`
timeout: 2s
defaults: { executor: process }
steps:
- { id: a, run: 'sleep 600', cancel: { grace: 1s } }
- { id: b, run: exit 0 }
finally:
- { id: report, run: 'echo "$RUN_STATE"' }
`)
	r.ends(t, 4, "a=timed_out(timeout) b=canceled(timeout) report=passed")
	if r.State != "timed_out" || !strings.Contains(r.Message, "longer than 2s") {
		t.Errorf("the run is %s: %s", r.State, r.Message)
	}
	if got := f.rawLog(r.ID + "/report"); got != "timed_out\n" {
		t.Errorf("finally saw %q", got)
	}
}

func queueTimeout(t *testing.T, f *fleet) {
	r := f.run(head + `
queue_timeout: 1s
steps:
- { id: a, needs: [], tags: { os: plan9 }, run: exit 0 }
- { id: b, needs: [], queue: nobody, queue_timeout: 1500ms, run: exit 0 }
- { id: c, needs: [a, b], run: exit 0 }
`)
	r.ends(t, 4, "a=expired(queue_timeout) b=expired(queue_timeout) c=not_run(dependency_failed)")
	for id, want := range map[string]string{"a": `its tag os is "linux", not "plan9"`, "b": "it serves queue default"} {
		if got := r.step(t, id).Message; !strings.Contains(got, want) {
			t.Errorf("%s says %q, want the reason why no agent took it: %s", id, got, want)
		}
	}
}
