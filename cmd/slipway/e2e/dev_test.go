//go:build e2e

package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dev begins a `slipway dev` that the harness does not know, in the fleet's
// surroundings.
func (f *fleet) dev(flags ...string) *session {
	f.t.Helper()
	return f.begin(append([]string{"dev", "--no-docker", "--listen", "127.0.0.1:0"}, flags...)...)
}

// nowhere is surroundings without a fleet.
func nowhere(t *testing.T) *fleet {
	t.Helper()
	home, err := os.MkdirTemp("/tmp", "swn")
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, home: home}
	t.Cleanup(func() {
		f.sweep()
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	if f.bin, err = binary(); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestE2EDevBlock: what `slipway dev` prints for people, and where things lie.
func TestE2EDevBlock(t *testing.T) {
	t.Parallel()
	f := nowhere(t)
	script := f.path("browser")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$1\" > "+f.path("opened")+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	cmd := f.command("dev", "--no-docker", "--listen", "127.0.0.1:0", "--open", "--example")
	cmd.Env = append(cmd.Env, "BROWSER="+script)
	s := f.attach(cmd)
	s.says("next, in a git work tree")
	t.Logf("ready after %s", time.Since(begin).Round(time.Millisecond))
	s.says("answer | the step before said hello")
	s.says(" passed in ")
	block := s.stdout.String()
	data := filepath.Join(f.home, "state", "slipway", "dev")
	for _, want := range []string{
		"The fleet is ready.", "API       http://127.0.0.1:", "token     " + data, "S3        http://127.0.0.1:", "bucket slipway",
		"registry  127.0.0.1:", "data      " + data, "as processes", "slipway run --follow", "slipway init",
	} {
		if !strings.Contains(block, want) {
			t.Errorf("it does not say %q:\n%s", want, block)
		}
	}
	raw, err := os.ReadFile(filepath.Join(f.home, "state", "slipway", "dev.json"))
	var a struct {
		URL       string `json:"url"`
		TokenFile string `json:"token_file"`
		PID       int    `json:"pid"`
	}
	if err != nil || json.Unmarshal(raw, &a) != nil || a.PID != cmd.Process.Pid {
		t.Fatalf("the announcement: %v\n%s", err, raw)
	}
	f.eventually("the browser is opened", func() bool {
		opened, err := os.ReadFile(f.path("opened"))
		return err == nil && strings.TrimSpace(string(opened)) == a.URL
	})
	if info, err := os.Stat(a.TokenFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token file: %v, %v", info, err)
	}
	// A client in the same surroundings needs nothing else.
	client := f.command("runs", "ls", "-o", "name")
	client.Env = f.environ()
	if res := f.finish(client); res.code != 0 || strings.Count(res.stdout, "\n") != 1 {
		t.Errorf("a client beside it: %s", res)
	}
	s.signal(syscall.SIGINT)
	s.end().ends(t, 130)
	if res := f.finish(f.command("runs", "ls")); res.code == 0 {
		t.Errorf("after its end: %s", res)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if _, err := http.Get(a.URL + path); err == nil {
			t.Errorf("%s still answers", path)
		}
	}
}

// TestE2EDevJSON: the one line that programs read.
func TestE2EDevJSON(t *testing.T) {
	t.Parallel()
	f := nowhere(t)
	s := f.dev("-o", "json", "--data", f.path("data"), "--example")
	s.says("\n")
	line := s.stdout.String()
	var a map[string]any
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	shape(t, "the announcement", a, "url", "token_file", "s3_endpoint", "bucket", "registry", "data_dir", "pid")
	if len(a) != 7 || a["data_dir"] != f.path("data") || a["pid"] != float64(s.cmd.Process.Pid) {
		t.Errorf("the announcement is %s", line)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		res, err := http.Get(a["url"].(string) + path)
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
	f.eventually("the example passes", func() bool { return strings.Contains(s.stderr.String(), " passed in ") })
	if s.stdout.String() != line {
		t.Errorf("standard output holds more than the line:\n%s", s.stdout.String())
	}
	s.signal(syscall.SIGTERM)
	s.end().ends(t, 0)
}

// TestE2EDevRefused: a second fleet on the same data, a port that is taken, an
// address that strangers reach, and other mistakes.
func TestE2EDevRefused(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	f.dev("--data", f.DataDir).end().ends(t, 2, "another `slipway dev` uses "+f.DataDir, "--data")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tt := range []struct {
		code int
		say  []string
		args []string
	}{
		{8, []string{"cannot listen on " + l.Addr().String(), "address already in use", "--listen"}, []string{"--listen", l.Addr().String()}},
		{2, []string{"0.0.0.0:0", "loopback"}, []string{"--listen", "0.0.0.0:0"}},
		{2, []string{"nonsense"}, []string{"--listen", "nonsense"}},
		{2, []string{"unknown flag"}, []string{"--nope"}},
		{2, []string{"at most 0 argument"}, []string{"now"}},
		{2, []string{"data folder"}, []string{"--data", "/proc/nowhere"}},
	} {
		args := append([]string{"--data", f.path("other")}, tt.args...)
		res := f.dev(args...).end()
		res.ends(t, tt.code, tt.say...)
		if n := strings.Count(res.stderr, "\n"); n > 3 {
			t.Errorf("%v: %d lines for one mistake:\n%s", tt.args, n, res.stderr)
		}
	}
	// The first one has noticed nothing.
	f.passes(head + "steps: [{ id: a, run: exit 0 }]\n")
	if res := f.finish(f.command("whoami")); res.code != 0 {
		t.Errorf("%s", res)
	}
}

// TestE2EDevIdle shows what an idle fleet takes.
func TestE2EDevIdle(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	f := startFleet(t, noDocker())
	ready := time.Since(begin)
	f.passes(head + "steps: [{ id: a, run: exit 0 }]\n")
	t.Logf("first start ready after %s; RSS after a run %s", ready.Round(time.Millisecond), f.rss())
	again := f.readyIn()
	t.Logf("second start ready after %s; RSS idle %s", again, f.rss())
	begin = time.Now()
	r := f.passes(head + "steps: [{ id: a, run: exit 0 }]\n")
	t.Logf("an empty step, from submit to final with its log in S3: %s; the step itself %s", time.Since(begin).Round(time.Millisecond),
		r.Steps[0].Attempts[0].FinishedAt.Sub(*r.Steps[0].Attempts[0].QueuedAt).Round(time.Millisecond))
	if code := f.stop(); code != 130 {
		t.Errorf("Ctrl-C: exit code %d, want 130", code)
	}
	if left := f.processes(); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
}

// TestE2EInit: from an empty project to a first run.
func TestE2EInit(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	code := f.newRepo(map[string]string{"go.mod": "module example.com/x\n", "sub/x": ""})
	f.in(code.dir, "init").ends(t, 0)
	f.in(code.dir, "init").ends(t, 2, "is there already")
	f.in(code.dir, "lint").ends(t, 0)
	text, err := os.ReadFile(filepath.Join(code.dir, ".slipway", "workflow.yaml"))
	if err != nil || !strings.Contains(string(text), "golang:") || !strings.Contains(string(text), "go test") {
		t.Errorf("init wrote %v\n%s", err, text)
	}
	var r runJSON
	f.in(code.dir, "run", "--local", "-o", "json").decode(t, &r)
	// This fleet has no engine, and says so.
	f.eventually("the step says why it waits", func() bool {
		w := f.show(r.ID).Steps[0].WaitReason
		return w != nil && w.Code == "no_agent_matches" && strings.Contains(w.Message, "no executor docker")
	})
	f.must("runs", "cancel", r.ID)
	f.wait(r.ID).ends(t, 3, "test=canceled(canceled_user)")
}
