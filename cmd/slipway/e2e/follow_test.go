//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/lifecycle"
)

// session is a client's command that runs beside the test.
type session struct {
	f      *fleet
	cmd    *exec.Cmd
	stdout lockedBuffer
	stderr lockedBuffer
	exited chan struct{}
}

// lockedBuffer is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// begin starts a command; the end of the test kills it.
func (f *fleet) begin(args ...string) *session {
	f.t.Helper()
	return f.attach(f.command(args...))
}

// attach is begin for a command that is not quite the usual one.
func (f *fleet) attach(cmd *exec.Cmd) *session {
	f.t.Helper()
	s := &session{f: f, cmd: cmd, exited: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	if err := s.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	tasks := lifecycle.NewTasks(context.Background())
	tasks.Go("session", func(context.Context) { _ = s.cmd.Wait(); close(s.exited) })
	f.t.Cleanup(func() { _ = s.cmd.Process.Kill(); <-s.exited; _ = tasks.Stop() })
	return s
}

// says waits until the command has printed a text.
func (s *session) says(text string) {
	s.f.t.Helper()
	s.f.t.Cleanup(func() {
		if s.f.t.Failed() {
			out := s.stdout.String()
			s.f.t.Logf("%v printed, at its end:\n%s\n%s", s.cmd.Args[1:], out[max(0, len(out)-2000):], s.stderr.String())
		}
	})
	s.f.eventually(fmt.Sprintf("%v prints %q", s.cmd.Args[1:], text), func() bool { return strings.Contains(s.stdout.String(), text) })
}

// end waits for the command's end.
func (s *session) end() result {
	s.f.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.exited:
	case <-timer.C:
		s.f.t.Fatalf("%v does not end\n%s%s", s.cmd.Args[1:], s.stdout.String(), s.stderr.String())
	}
	return result{args: s.cmd.Args[1:], stdout: s.stdout.String(), stderr: s.stderr.String(), code: s.cmd.ProcessState.ExitCode()}
}

func (s *session) signal(sig syscall.Signal) {
	s.f.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.f.t.Fatal(err)
	}
}

// linesOf returns what a follower printed of a step's log, without the step's
// states.
func linesOf(out, step string) []string {
	var lines []string
	for _, line := range strings.Split(out, "\n") {
		if name, text, ok := strings.Cut(line, " | "); ok && strings.TrimSpace(name) == step {
			lines = append(lines, text)
		}
	}
	return lines
}

// TestE2EFollow follows runs and logs in every way.
func TestE2EFollow(t *testing.T) {
	t.Parallel()
	control(t, map[string]func(*testing.T, *fleet){
		"a run to its end": followRun,
		"detached":         followDetached,
		"logs":             followLogs,
		"what was printed": readLogs,
	})
}

func followRun(t *testing.T, f *fleet) {
	gate := f.path("follow-run")
	s := f.begin("run", "-f", f.workflow(head+`
steps:
- { id: a, run: 'echo "first of a"; echo "to stderr" >&2; while [ ! -e `+gate+` ]; do sleep 0.05; done; printf "no newline"' }
- { id: longer, run: 'echo "from longer"; exit 3' }
`), "--follow")
	s.says("a      | first of a") // live: the step still runs
	s.says("a      | to stderr")
	f.lift(gate)
	res := s.end()
	res.ends(t, 1)
	for _, want := range []string{
		"a      | no newline\n", "a      | passed\n", "longer | from longer\n", "longer | failed (exit_code: exit code 3)\n", " failed (exit_code) in ",
	} {
		if !strings.Contains(res.stdout, want) {
			t.Errorf("it does not print %q:\n%s", want, res.stdout)
		}
	}
	if strings.Contains(res.stdout, "\x1b") || res.stderr != "" {
		t.Errorf("no terminal, but %q, and on standard error %q", res.stdout, res.stderr)
	}
	if last := res.stdout[strings.LastIndex(strings.TrimSuffix(res.stdout, "\n"), "\n")+1:]; !strings.HasPrefix(last, "run ") {
		t.Errorf("the last line is %q, want the run's end", last)
	}
}

func followDetached(t *testing.T, f *fleet) {
	gate := f.path("follow-detached")
	s := f.begin("run", "-f", f.workflow(head+"steps:\n- { id: a, run: 'echo up; while [ ! -e "+gate+" ]; do sleep 0.05; done' }\n"), "--follow")
	s.says("a | up")
	s.signal(syscall.SIGINT)
	res := s.end()
	res.ends(t, 130, "detached; the run goes on", "slipway runs cancel ")
	id := regexp.MustCompile(`runs cancel (\w+)`).FindStringSubmatch(res.stderr)
	if id == nil {
		t.Fatalf("it names no run: %s", res.stderr)
	}
	if r := f.show(id[1]); r.State != "running" {
		t.Errorf("after Ctrl-C of its follower the run is %s", r.State)
	}
	watcher := f.begin("runs", "watch", id[1])
	f.lift(gate)
	res = watcher.end()
	res.ends(t, 0)
	if !strings.Contains(res.stdout, "a | passed") || strings.Contains(res.stdout, "a | up") {
		t.Errorf("runs watch prints states, and no logs:\n%s", res.stdout)
	}
	if res = f.must("logs", id[1], "-f"); !strings.Contains(res.stdout, "a | up") {
		t.Errorf("logs -f of a run that is over:\n%s", res)
	}
	gone := f.begin("runs", "watch", f.submit(head+"steps:\n- { id: a, queue: nobody, run: exit 0 }\n").ID, "--timeout", "500ms")
	gone.end().ends(t, 4, "gave up after 500ms")
}

func followLogs(t *testing.T, f *fleet) {
	gate := f.path("follow-logs")
	r := f.submit(head + "steps:\n- { id: a, run: 'echo up; while [ ! -e " + gate + " ]; do sleep 0.05; done; echo done; exit 9' }\n- { id: b, run: exit 0 }\n")
	one, all := f.begin("logs", r.ID+"/a", "-f"), f.begin("logs", r.ID, "-f")
	one.says("up\n")
	all.says("a | up\n")
	// Without -f it prints what there is and ends.
	if got := f.rawLog(r.ID + "/a"); got != "up\n" {
		t.Errorf("the log so far is %q", got)
	}
	f.lift(gate)
	if res := one.end(); res.code != 0 || !strings.HasPrefix(res.stdout, "up\ndone\n") {
		t.Errorf("logs -f of a step: %s", res)
	}
	if res := all.end(); res.code != 0 || !strings.Contains(res.stdout, "a | done\n") {
		t.Errorf("logs -f of a run: %s", res)
	}
}

func readLogs(t *testing.T, f *fleet) {
	r := f.passes(head + `
steps:
- id: a
  run: |
    i=1; while [ $i -le 200 ]; do echo "line $i"; i=$((i+1)); done
    printf 'bytes \000\377 and no end'
- { id: b, run: 'echo from b' }
`)
	raw := f.rawLog(r.ID + "/a")
	if !strings.HasPrefix(raw, "line 1\nline 2\n") || !strings.HasSuffix(raw, "line 200\nbytes \x00\xff and no end") {
		t.Errorf("the raw log ends with %q", raw[max(0, len(raw)-60):])
	}
	if got := f.must("logs", r.ID+"/a", "--tail", "3").stdout; got != "line 199\nline 200\nbytes  \xff and no end\n" { // a terminal sees no control characters
		t.Errorf("--tail 3 prints %q", got)
	}
	stamped := f.must("logs", r.ID+"/b", "--timestamps").stdout
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z from b\n$`).MatchString(stamped) {
		t.Errorf("--timestamps prints %q", stamped)
	}
	both := f.must("logs", r.ID).stdout
	if !strings.Contains(both, "a | line 1\n") || !strings.HasSuffix(both, "b | from b\n") {
		t.Errorf("the log of the run ends with %q", both[max(0, len(both)-60):])
	}
	var record struct{ Stream, Data string }
	result{stdout: f.must("logs", r.ID+"/b", "-o", "jsonl").stdout}.decode(t, &record)
	if record.Stream != "stdout" || record.Data == "" {
		t.Errorf("a record as JSON: %+v", record)
	}
}

// TestE2EFollowRestart: followers live through kill -9 of the fleet and print
// each line once.
func TestE2EFollowRestart(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker(), onePort(t))
	const count = 3000
	first, second := f.path("gate-1"), f.path("gate-2")
	file := f.workflow(head + fmt.Sprintf(`
steps:
- id: a
  retry: []
  run: |
    echo begin
    while [ ! -e %s ]; do sleep 0.02; done
    i=0; while [ $i -lt %d ]; do echo "line $i"; i=$((i+1)); [ $((i %% 100)) != 0 ] || sleep 0.05; done
    while [ ! -e %s ]; do sleep 0.02; done
    echo end; exit 5
`, first, count, second))
	followers := []*session{f.begin("run", "-f", file, "--follow")}
	followers[0].says("a | begin")
	id := strings.TrimSpace(f.must("runs", "ls", "-o", "name").stdout)
	followers = append(followers, f.begin("logs", id+"/a", "-f"), f.begin("runs", "watch", id))
	followers[1].says("begin\n")
	f.lift(first)
	for _, at := range []int{300, 1200} {
		followers[0].says(fmt.Sprintf("a | line %d\n", at))
		f.kill()
		f.restart()
	}
	f.lift(second)
	for i, code := range []int{5, 0, 5} {
		if code == 5 {
			code = 1
		}
		res := followers[i].end()
		res.ends(t, code)
		if i == 2 {
			continue
		}
		lines := linesOf(res.stdout, "a")
		if i == 1 {
			lines = strings.Split(strings.TrimSuffix(res.stdout, "\n"), "\n")
		}
		onceEach(t, res, lines, count)
	}
	if r := f.show(id); r.tries() != "a=1" || *r.step(t, "a").last(t).ExitCode != 5 {
		t.Errorf("attempts %s, exit code %d", r.tries(), *r.step(t, "a").last(t).ExitCode)
	}
	f.nothingLeft()
}

// onceEach demands begin, every line in order, and end.
func onceEach(t *testing.T, res result, lines []string, count int) {
	t.Helper()
	var got []string
	for _, l := range lines {
		if l == "begin" || l == "end" || strings.HasPrefix(l, "line ") {
			got = append(got, l)
		}
	}
	if len(got) != count+2 || got[0] != "begin" || got[len(got)-1] != "end" {
		t.Errorf("%v printed %d lines, want %d", res.args, len(got), count+2)
	}
	for i, l := range got[1 : len(got)-1] {
		if l != fmt.Sprintf("line %d", i) {
			t.Fatalf("%v: after %q comes %q", res.args, got[i], l)
		}
	}
}
