//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// removals returns when the fleet's containers were removed, by attempt.
func (f *fleet) removals(since time.Time) map[string]time.Time {
	f.t.Helper()
	// --until a moment that is over, or docker waits for more events.
	out, err := exec.Command("docker", "events", "--since", strconv.FormatInt(since.Unix(), 10), "--until", strconv.FormatInt(time.Now().Unix()+1, 10),
		"--filter", "label=io.slipway.cluster="+f.cluster, "--filter", "event=destroy",
		"--format", `{{.TimeNano}} {{index .Actor.Attributes "io.slipway.attempt"}}`).Output()
	if err != nil {
		f.t.Fatalf("docker events: %v", err)
	}
	at := map[string]time.Time{}
	for line := range strings.Lines(string(out)) {
		ns, attempt, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			f.t.Fatalf("docker events: %q", line)
		}
		at[attempt] = time.Unix(0, n)
	}
	return at
}

// TestE2EHabit: an image of the original habit passes as it is. It uploads its
// log, writes SUCCESS at LOG_PATH and sleeps for ever.
func TestE2EHabit(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	begin := time.Now()
	const n = 5
	// Nothing but an image: its own entry point runs.
	yaml := "timeout: 3m\nsteps:\n"
	for i := range n {
		yaml += fmt.Sprintf("  - { id: habit%d, image: %q, pull: never }\n", i, image(t))
	}
	r := f.passes(yaml)
	removed := f.removals(begin)
	var took []time.Duration
	for i := range n {
		id := fmt.Sprintf("habit%d", i)
		a := r.step(t, id).last(t)
		log := f.rawLog(r.ID + "/" + id)
		_, rest, ok := strings.Cut(log, "reporting at ")
		ns, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		if !ok || err != nil || removed[a.ID].IsZero() {
			t.Fatalf("%s: removed at %v, log\n%s", id, removed[a.ID], log)
		}
		took = append(took, removed[a.ID].Sub(time.Unix(0, ns)))
		if own, _ := f.object(logPath(t, a).Key("build.log")); string(own) != "all that I have to say\n" {
			t.Errorf("%s: its own log in the bucket is %q", id, own)
		}
		if word, _ := f.object(logPath(t, a).Complete()); string(word) != "SUCCESS" {
			t.Errorf("%s: its word in the bucket is %q", id, word)
		}
	}
	slices.Sort(took)
	t.Logf("from the report in S3 to the container's removal: p50 %s, p95 (of %d) %s", took[n/2].Round(time.Millisecond), n, took[n-1].Round(time.Millisecond))
	if took[n-1] > 10*time.Second {
		t.Errorf("a container was removed %s after its report; promised are 2 s", took[n-1])
	}
	f.nothingLeft()
}

// TestE2ECompletion: what ends a step and what counts, in S3 and in the folder.
func TestE2ECompletion(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	const (
		folderWord = `printf '%s' "$1" > "$SLIPWAY_REPORT_DIR/.c"; mv "$SLIPWAY_REPORT_DIR/.c" "$SLIPWAY_REPORT_DIR/complete"`
		shell      = "executor: process"
	)
	where := map[string]string{"process": shell, "docker": "image: " + busybox + ", pull: never"}
	for _, executor := range []string{"process", "docker"} {
		var b strings.Builder
		step := func(id, more, script string) {
			script = strings.ReplaceAll(script, "WORD", folderWord)
			fmt.Fprintf(&b, "  - { id: %s, needs: [], checkout: false, soft_fail: true, retry: [], %s%s, run: %q }\n", id, where[executor], more, script)
		}
		with := func(id, more string, words ...string) {
			b.WriteString(strings.TrimSuffix(inside(t, executor, id, words...), " }\n") + ", soft_fail: true, retry: []" + more + " }\n")
		}
		b.WriteString("timeout: 3m\nsteps:\n")
		with("s3-failure", "", "habit", "FAILURE", "exit")
		with("s3-failure-ignored", ", completion: exit", "habit", "FAILURE", "exit")
		with("s3-success-alone", ", completion: report", "habit", "SUCCESS")
		step("file-failure", "", "set -- FAILURE; WORD; exit 0")
		step("file-success-sleeps", "", "set -- SUCCESS; WORD; sleep 1000")
		step("file-success-beats-exit", "", "set -- SUCCESS; WORD; exit 7")
		step("no-report", ", completion: report", "exit 0")
		step("exit-alone", ", completion: exit", "set -- FAILURE; WORD; exit 0")
		step("message", "", `echo '{"state":"failed","message":"the disk is purple","outputs":{"x":"1"}}' > "$SLIPWAY_REPORT_DIR/report.json"; sleep 1000`)
		r := f.run(b.String())
		for _, want := range []struct{ step, state, reason, message string }{
			{"s3-failure", "soft_failed", "reported_failure", ""},
			{"s3-failure-ignored", "passed", "", ""},
			{"s3-success-alone", "passed", "", ""},
			{"file-failure", "soft_failed", "reported_failure", ""},
			{"file-success-sleeps", "passed", "", ""},
			{"file-success-beats-exit", "passed", "", ""},
			{"no-report", "soft_failed", "no_report", "without a final report"},
			{"exit-alone", "passed", "", ""},
			{"message", "soft_failed", "reported_failure", "the disk is purple"},
		} {
			s := r.step(t, want.step)
			if s.State != want.state || s.Reason != want.reason || !strings.Contains(s.Message, want.message) {
				t.Errorf("%s: %s is %s (%s: %s), want %s (%s)\n%s", executor, s.ID, s.State, s.Reason, s.Message, want.state, want.reason, f.do("logs", r.ID+"/"+s.ID).stdout)
			}
		}
		// What was said in the folder lies in the bucket too.
		if raw, ok := f.object(logPath(t, r.step(t, "message").last(t)).Report()); !ok || !strings.Contains(string(raw), "purple") {
			t.Errorf("%s: report.json in the bucket: %q", executor, raw)
		}
	}
	f.nothingLeft()
}

// TestE2EProgress: what a step says while it runs is shown.
func TestE2EProgress(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	r := f.submit(`
timeout: 3m
steps:
  - id: long
    executor: process
    checkout: false
    run: |
      echo '{"state":"running","progress":0.4,"message":"nearly half"}' > "$SLIPWAY_REPORT_DIR/report.json"
      until [ -e go ]; do sleep 0.1; done
      echo '{"state":"succeeded","outputs":{"answer":"42"}}' > "$SLIPWAY_REPORT_DIR/report.json"
      sleep 1000
    outputs: [answer]
`)
	f.eventually("its progress is shown", func() bool {
		s := f.show(r.ID).step(t, "long")
		return s.Progress == 0.4 && s.Note == "nearly half"
	})
	a := f.awaitStep(r.ID, "long", "running").last(t)
	f.eventually("state.json says it too", func() bool {
		raw, ok := f.object(logPath(t, a).State())
		return ok && strings.Contains(string(raw), "nearly half")
	})
	f.touch("work/default/test/long/go")
	if r = f.wait(r.ID); r.State != "passed" || r.Steps[0].Outputs["answer"] != "42" {
		t.Errorf("run %s, outputs %v", r.State, r.Steps[0].Outputs)
	}
	f.nothingLeft()
}
