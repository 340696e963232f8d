//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestE2ELimits: a step gets what it reserved, and no more.
func TestE2ELimits(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	limited := func(executor, id, resources string, words ...string) string {
		return strings.TrimSuffix(inside(t, executor, id, words...), " }\n") + ", soft_fail: true, retry: [], resources: { " + resources + " } }\n"
	}
	for _, executor := range []string{"docker", "process"} {
		t.Run(executor, func(t *testing.T) {
			r := f.run("timeout: 3m\nsteps:\n" +
				limited(executor, "memory", "memory: 48Mi", "eat", "400") +
				limited(executor, "enough", "memory: 256Mi", "eat", "100") +
				limited(executor, "pids", "pids: 30", "fork", "100") +
				limited(executor, "cpu", "cpu: 0.25", "burn", "3"))
			log := func(step string) string { return f.rawLog(r.ID + "/" + step) }
			if executor == "process" && strings.Contains(f.do("logs", r.ID+"/memory").stdout, "control groups") {
				t.Logf("no control groups for processes here: %s", f.do("logs", r.ID+"/memory").stdout)
				return
			}
			s := r.step(t, "memory")
			if s.State != "soft_failed" || s.Reason != "oom" || !strings.Contains(s.Message, "memory") {
				t.Errorf("memory: %s (%s: %s)\n%s", s.State, s.Reason, s.Message, log("memory"))
			}
			t.Logf("memory: %s", s.Message)
			if s := r.step(t, "enough"); s.State != "passed" || log("enough") != "ate 100 MiB\n" {
				t.Errorf("enough: %s (%s)\n%s", s.State, s.Reason, log("enough"))
			}
			if n := number(t, log("pids"), `forked (\d+)`); n >= 30 || n == 0 {
				t.Errorf("pids: %s", log("pids"))
			}
			if n := number(t, log("cpu"), `cpu (\d+) percent`); n > 45 {
				t.Errorf("cpu: a quarter of a core gives %d percent", n)
			}
			t.Logf("pids: %s; cpu 0.25: %s", strings.TrimSpace(log("pids")), strings.TrimSpace(log("cpu")))
		})
	}
	t.Run("more than any agent has", func(t *testing.T) {
		r := f.submit(fmt.Sprintf("timeout: 3m\nqueue_timeout: 3s\nsteps:\n%s", limited("process", "huge", "cpu: 900", "args")))
		s := f.awaitStep(r.ID, "huge", "queued", "pending", "expired")
		f.eventually("it says why it waits", func() bool {
			s = f.show(r.ID).step(t, "huge")
			return s.WaitReason != nil && s.WaitReason.Code != "" && s.WaitReason.Message != "" || s.State == "expired"
		})
		t.Logf("waits: %+v", s.WaitReason)
		if r = f.wait(r.ID); r.State != "expired" || r.ExitCode != 4 || r.step(t, "huge").Reason != "queue_timeout" {
			t.Errorf("run %s (exit code %d): %+v", r.State, r.ExitCode, r.Steps)
		}
	})
	f.nothingLeft()
}

func number(t *testing.T, text, pattern string) int {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Errorf("%q is not like %s", text, pattern)
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
