//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// onePort makes a fleet listen on the same port after every restart, so that
// clients find it again.
func onePort(t testing.TB) option {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return withFlags("--listen", l.Addr().String())
}

// readyIn restarts the fleet and returns how long it took to be ready.
func (f *fleet) readyIn() time.Duration {
	f.t.Helper()
	begin := time.Now()
	f.restart()
	return time.Since(begin).Round(time.Millisecond)
}

// TestE2ERestartIdle kills a fleet that has nothing to do: everything it had
// acknowledged is there again.
func TestE2ERestartIdle(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	r := f.run(chain+"", "--param", "n=3")
	kept := f.run(head + `
steps:
- id: keep
  run: 'mkdir out; echo precious > out/file.txt; echo to stderr >&2; exit 4'
  artifacts: [{ paths: ["out/*"], when: always }]
`)
	kept.ends(t, 1, "keep=failed(exit_code)")
	f.must("step", "skip", kept.ID+"/keep", "-m", "known")
	f.wait(kept.ID)
	type memory struct{ Runs, First, Second, Log, Artifacts, Artifact, Audit, Info string }
	remember := func() memory {
		return memory{
			Runs:      f.must("runs", "ls", "-o", "yaml").stdout,
			First:     f.must("runs", "show", r.ID, "-o", "json").stdout,
			Second:    f.must("runs", "show", kept.ID, "-o", "json").stdout,
			Log:       f.must("logs", kept.ID, "--timestamps").stdout,
			Artifacts: f.must("artifact", "ls", kept.ID, "-o", "json").stdout,
			Artifact:  f.must("artifact", "get", kept.ID, "out/file.txt", "--to", "-").stdout,
			Audit:     f.must("audit", "ls", "-o", "jsonl").stdout,
			Info:      f.cluster + " " + f.token + " " + f.S3Endpoint + " " + f.Registry,
		}
	}
	before := remember()
	if before.Artifact != "precious\n" || !strings.Contains(before.Log, "to stderr") {
		t.Fatalf("before the kill: artifact %q, log %q", before.Artifact, before.Log)
	}
	f.kill()
	t.Logf("ready %s after the kill", f.readyIn())
	if diff := cmp.Diff(before, remember()); diff != "" {
		t.Errorf("after kill -9 and a restart (-before +after):\n%s", diff)
	}
	if again := f.run(chain, "--param", "n=3"); again.State != "passed" {
		t.Errorf("a run after the restart: %s", again.State)
	}
	f.nothingLeft()
	t.Logf("stopped with exit code %d", f.stop())
	f.readyIn()
	if got := f.must("runs", "ls", "-o", "name").stdout; strings.Count(got, "\n") != 3 {
		t.Errorf("after Ctrl-C and a restart there are the runs\n%s", got)
	}
}

// slowStep prints a line every tenth of a second, a hundred times in all, and
// ends with 7. The folder's file go lets it begin.
func slowStep(gate string) string {
	return head + fmt.Sprintf(`
steps:
- id: slow
  retry: []
  run: |
    echo up
    while [ ! -e %s ]; do sleep 0.05; done
    i=0; while [ $i -lt 100 ]; do echo "line $i"; i=$((i+1)); sleep 0.02; done
    exit 7
`, gate)
}

// slowLog is what slowStep prints.
func slowLog() string {
	var b strings.Builder
	b.WriteString("up\n")
	for i := range 100 {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

// TestE2ETerminate: SIGTERM ends the fleet and not its steps; the next start
// takes them up, with a true exit code and a whole log. So does the next start
// after kill -9.
func TestE2ETerminate(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	for _, how := range []string{"SIGTERM", "kill -9"} {
		gate := f.path("go-" + how[:3])
		r := f.submit(slowStep(gate))
		f.awaitLog(r.ID+"/slow", "up")
		before := f.show(r.ID).step(t, "slow").last(t)
		begin := time.Now()
		if how == "SIGTERM" {
			if code := f.terminate(); code != 0 {
				t.Errorf("SIGTERM: exit code %d, want 0\n%s", code, f.devLog())
			}
		} else {
			f.kill()
		}
		took := time.Since(begin)
		if left := f.processes(); len(left) == 0 {
			t.Errorf("%s took the step's processes with it", how)
		}
		f.lift(gate) // it prints while nobody is there
		t.Logf("%s: gone after %s, ready again after %s", how, took.Round(time.Millisecond), f.readyIn())
		done := f.wait(r.ID)
		done.ends(t, 1, "slow=failed(exit_code)")
		a := done.step(t, "slow").last(t)
		if done.tries() != "slow=1" || a.ID != before.ID || a.ExitCode == nil || *a.ExitCode != 7 {
			t.Errorf("%s: attempts %s, exit code %v; want the one adopted, with 7", how, done.tries(), a.ExitCode)
		}
		if diff := cmp.Diff(slowLog(), f.rawLog(r.ID+"/slow")); diff != "" {
			t.Errorf("%s: the log (-want +got):\n%s", how, diff)
		}
	}
	f.nothingLeft()
}

// TestE2EInterrupt: Ctrl-C cancels what runs, says why, and leaves nothing.
func TestE2EInterrupt(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	r := f.submit(head + `
steps:
- { id: kind, needs: [], retry: [], run: 'echo up; exec sleep 600' }
- { id: stubborn, needs: [], retry: [], ` + stubborn + ` }
- { id: again, needs: [], retry: [{ on: [agent_shutdown], limit: 1, backoff: 50ms }], run: 'echo up; test "$SLIPWAY_ATTEMPT" -gt 1 || exec sleep 600' }
`)
	for _, id := range []string{"kind", "stubborn", "again"} {
		f.awaitLog(r.ID+"/"+id, "up")
	}
	begin := time.Now()
	code := f.stop()
	t.Logf("Ctrl-C with three steps, one of which ignores SIGTERM: over after %s", time.Since(begin).Round(time.Millisecond))
	if code != 130 {
		t.Errorf("exit code %d, want 130\n%s", code, f.devLog())
	}
	f.eventually("no process is left", func() bool { return len(f.processes()) == 0 })
	if raw, err := os.ReadFile(filepath.Join(f.home, "state", "slipway", "dev.json")); err == nil {
		t.Errorf("the announcement is still there: %s", raw)
	}
	f.restart()
	r = f.wait(r.ID)
	r.ends(t, 3, "kind=canceled(agent_shutdown) stubborn=canceled(agent_shutdown) again=passed")
	if r.tries() != "kind=1 stubborn=1 again=2" {
		t.Errorf("attempts %s", r.tries())
	}
	for _, s := range r.Steps {
		if a := s.Attempts[0]; a.State != "canceled" || a.Reason != "agent_shutdown" {
			t.Errorf("attempt 1 of %s is %s (%s)", s.ID, a.State, a.Reason)
		}
	}
	f.nothingLeft()
}
