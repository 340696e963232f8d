//go:build e2e

// Package e2e drives the real binary: a whole fleet in a process of its own,
// its command line, real containers and processes, real S3.
//
//	f := startFleet(t)                      a fleet in a folder of its own
//	r := f.run(yaml)                        submit, wait until it is final
//	f.do("runs", "show", r.ID)              any verb: stdout, stderr, exit code
//	f.kill(); f.restart()                   kill -9, and the same fleet again
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/objectstore"
)

// patience is how long an event may take on a slow machine.
const patience = 90 * time.Second

// binary returns the slipway under test: SLIPWAY_BIN, or one built now.
var binary = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("SLIPWAY_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	dir, err := os.MkdirTemp("", "slipway-e2e-bin-")
	if err != nil {
		return "", err
	}
	atEnd(func() { _ = os.RemoveAll(dir) })
	bin := filepath.Join(dir, "slipway")
	return bin, goBuild(bin, "github.com/slipway-ci/slipway/cmd/slipway")
})

// goBuild builds a static program.
func goBuild(out, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// ends is what TestMain does last.
var ends struct {
	mu  sync.Mutex
	all []func()
}

// atEnd runs f when all tests are over.
func atEnd(f func()) {
	ends.mu.Lock()
	defer ends.mu.Unlock()
	ends.all = append(ends.all, f)
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, f := range ends.all {
		f()
	}
	os.Exit(code)
}

// fleet is a `slipway dev` of its own.
type fleet struct {
	t     testing.TB
	bin   string
	home  string // of everything; short, since sockets may lie below it
	flags []string

	// What the announcement says.
	URL        string `json:"url"`
	TokenFile  string `json:"token_file"`
	S3Endpoint string `json:"s3_endpoint"`
	Bucket     string `json:"bucket"`
	Registry   string `json:"registry"`
	DataDir    string `json:"data_dir"`
	PID        int    `json:"pid"`

	cluster string
	token   string

	cmd    *exec.Cmd
	tasks  *lifecycle.Tasks
	exited chan struct{} // closed when the process has ended
	starts int
}

// option changes a fleet before it starts.
type option func(f *fleet)

// withFlags adds flags of `slipway dev`.
func withFlags(flags ...string) option {
	return func(f *fleet) { f.flags = append(f.flags, flags...) }
}

// startFleet starts a fleet and waits until it is ready. The end of the test
// kills it and removes all that is left of it.
func startFleet(t testing.TB, opts ...option) *fleet {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.MkdirTemp("/tmp", "swe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0o755); err != nil { // users of containers pass through it
		t.Fatal(err)
	}
	f := &fleet{t: t, bin: bin, home: home}
	for _, o := range opts {
		o(f)
	}
	t.Cleanup(f.cleanup)
	f.start()
	return f
}

// path names something below the fleet's home.
func (f *fleet) path(name string) string { return filepath.Join(f.home, name) }

// environ is the environment of the fleet and of its clients.
func (f *fleet) environ(more ...string) []string {
	env := []string{
		"HOME=" + f.home, "XDG_STATE_HOME=" + f.path("state"), "XDG_CONFIG_HOME=" + f.path("config"),
		"GIT_AUTHOR_NAME=e2e", "GIT_AUTHOR_EMAIL=e2e@example.com", "GIT_COMMITTER_NAME=e2e", "GIT_COMMITTER_EMAIL=e2e@example.com",
	}
	for _, kv := range os.Environ() {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "PATH", "TMPDIR", "LANG", "GORACE", "XDG_RUNTIME_DIR", "DOCKER_HOST", "GOPROXY", "GOFLAGS", "GONOSUMDB", "GOSUMDB":
			env = append(env, kv)
		}
	}
	return append(env, more...)
}

func (f *fleet) start() {
	f.t.Helper()
	f.starts++
	out := f.path(fmt.Sprintf("announcement.%d", f.starts))
	stdout, err := os.Create(out)
	if err != nil {
		f.t.Fatal(err)
	}
	defer stdout.Close()
	stderr, err := os.OpenFile(f.path("dev.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		f.t.Fatal(err)
	}
	defer stderr.Close()
	args := append([]string{"dev", "--data", f.path("data"), "--listen", "127.0.0.1:0", "-o", "json"}, f.flags...)
	f.cmd = exec.Command(f.bin, args...)
	f.cmd.Env, f.cmd.Dir, f.cmd.Stdout, f.cmd.Stderr = f.environ(), f.home, stdout, stderr
	if err := f.cmd.Start(); err != nil {
		f.t.Fatalf("cannot start a fleet: %v", err)
	}
	f.tasks, f.exited = lifecycle.NewTasks(context.Background()), make(chan struct{})
	cmd, exited := f.cmd, f.exited
	f.tasks.Go("dev", func(context.Context) { _ = cmd.Wait(); close(exited) })
	f.eventually("the fleet is ready", func() bool {
		raw, err := os.ReadFile(out)
		if err == nil && bytes.HasSuffix(raw, []byte("\n")) {
			return json.Unmarshal(raw, f) == nil
		}
		if f.ended() {
			f.t.Fatalf("slipway dev ended with %v before it was ready\n%s", f.cmd.ProcessState, f.devLog())
		}
		return false
	})
	token, err := os.ReadFile(f.TokenFile)
	if err != nil {
		f.t.Fatalf("the token: %v", err)
	}
	f.token = strings.TrimSpace(string(token))
	var info struct{ Cluster string }
	f.must("whoami", "-o", "json").decode(f.t, &info)
	f.cluster = info.Cluster
}

func (f *fleet) ended() bool {
	select {
	case <-f.exited:
		return true
	default:
		return false
	}
}

// end sends a signal and waits for the end; the exit code.
func (f *fleet) end(sig syscall.Signal) int {
	f.t.Helper()
	if f.cmd == nil || f.cmd.Process == nil {
		return -1
	}
	if err := f.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		f.t.Errorf("cannot signal the fleet: %v", err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-f.exited:
	case <-timer.C:
		_ = f.cmd.Process.Kill()
		<-f.exited
		f.t.Errorf("the fleet did not end on %v\n%s", sig, f.devLog())
	}
	if err := f.tasks.Stop(); err != nil {
		f.t.Error(err)
	}
	return f.cmd.ProcessState.ExitCode()
}

// kill is kill -9 of the fleet's process; steps run on.
func (f *fleet) kill() { f.t.Helper(); f.end(syscall.SIGKILL) }

// stop is Ctrl-C: the fleet cancels its steps and ends. It returns the exit code.
func (f *fleet) stop() int { f.t.Helper(); return f.end(syscall.SIGINT) }

// terminate is SIGTERM: the fleet ends within seconds and its steps run on.
func (f *fleet) terminate() int { f.t.Helper(); return f.end(syscall.SIGTERM) }

// restart starts the fleet again over the same data, killing it if it lives.
func (f *fleet) restart() {
	f.t.Helper()
	if !f.ended() {
		f.kill()
	}
	f.start()
}

// devLog is what the fleet logged, its end at least.
func (f *fleet) devLog() string {
	raw, err := os.ReadFile(f.path("dev.log"))
	if err != nil {
		return err.Error()
	}
	if len(raw) > 20_000 {
		raw = raw[len(raw)-20_000:]
	}
	return "--- log of the fleet\n" + string(raw)
}

func (f *fleet) cleanup() {
	if f.t.Failed() {
		f.t.Log(f.devLog())
	}
	if f.cmd != nil && f.cmd.Process != nil && !f.ended() {
		f.kill()
	}
	f.sweep()
	if os.Getenv("SLIPWAY_E2E_KEEP") == "1" && f.t.Failed() {
		f.t.Logf("kept: %s", f.home)
		return
	}
	if err := os.RemoveAll(f.home); err != nil {
		f.t.Errorf("the fleet's folder cannot be removed: %v", err)
	}
}

// result is how a command of the client ended.
type result struct {
	args           []string
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return fmt.Sprintf("slipway %s: exit code %d\n--- stdout\n%s--- stderr\n%s", strings.Join(r.args, " "), r.code, r.stdout, r.stderr)
}

// decode reads the JSON on standard output.
func (r result) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.stdout), v); err != nil {
		t.Fatalf("cannot read the JSON: %v\n%s", err, r)
	}
}

// command is a client's command, not yet started, in a folder outside of git.
func (f *fleet) command(args ...string) *exec.Cmd {
	cmd := exec.Command(f.bin, args...)
	cmd.Env = f.environ("SLIPWAY_URL="+f.URL, "SLIPWAY_TOKEN="+f.token, "NO_COLOR=1")
	cmd.Dir = f.home
	return cmd
}

// do runs a verb to its end.
func (f *fleet) do(args ...string) result { f.t.Helper(); return f.in(f.home, args...) }

// in runs a verb in a folder.
func (f *fleet) in(dir string, args ...string) result {
	f.t.Helper()
	cmd := f.command(args...)
	cmd.Dir = dir
	return f.finish(cmd)
}

// finish runs a command of command.
func (f *fleet) finish(cmd *exec.Cmd) result {
	f.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatalf("cannot run slipway %v: %v", cmd.Args[1:], err)
	}
	return result{args: cmd.Args[1:], stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

// must is do that must end with 0.
func (f *fleet) must(args ...string) result {
	f.t.Helper()
	r := f.do(args...)
	if r.code != 0 {
		f.t.Fatalf("%s\n%s", r, f.devLog())
	}
	return r
}

// eventually is poll.
func (f *fleet) eventually(what string, ok func() bool) {
	f.t.Helper()
	poll(f.t, what, ok)
}

// poll waits until ok is true, and fails the test when it never is.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened within %s: %s", patience, what)
		}
		<-ticker.C
	}
}

// store opens the fleet's bucket with the fleet's own credentials.
func (f *fleet) store() *objectstore.S3 {
	f.t.Helper()
	var secret struct {
		Access string `json:"s3_access_key"`
		Secret string `json:"s3_secret_key"`
	}
	raw, err := os.ReadFile(filepath.Join(f.DataDir, "secrets.json"))
	if err == nil {
		err = json.Unmarshal(raw, &secret)
	}
	if err != nil {
		f.t.Fatalf("the fleet's secrets: %v", err)
	}
	b, err := objectstore.Open(context.Background(), objectstore.Config{
		Endpoint: f.S3Endpoint, Bucket: f.Bucket, AccessKey: secret.Access, SecretKey: secret.Secret, PathStyle: true,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(b.Close)
	return b
}
