//go:build e2e

package e2e

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/shared/ci"
)

// TestE2ERefused: what cannot be done is refused with what to do, and with the
// exit code of its kind.
func TestE2ERefused(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	params := f.workflow(head + `
params:
  must: { type: string, pattern: "v[0-9]+" }
  n: { type: integer, min: 1, max: 5, default: 2 }
  pick: { type: choice, options: [smoke, full], default: smoke }
  yes: { type: boolean, default: true }
steps: [{ id: build, run: exit 0 }]
`)
	var ids []string
	for range 2 {
		ids = append(ids, f.run(head+"steps: [{ id: a, run: exit 0 }]\n").ID)
	}
	common := ids[0][:4]
	for _, tt := range []struct {
		code int
		say  []string
		args []string
	}{
		{2, []string{"must", "--param"}, []string{"run", "-f", params}},
		{2, []string{"mist", "must"}, []string{"run", "-f", params, "--param", "mist=v1"}},
		{2, []string{"must", "v[0-9]+"}, []string{"run", "-f", params, "--param", "must=x"}},
		{2, []string{"n", "whole number"}, []string{"run", "-f", params, "--param", "must=v1", "--param", "n=two"}},
		{2, []string{"n", "5"}, []string{"run", "-f", params, "--param", "must=v1", "--param", "n=6"}},
		{2, []string{"pick", "smoke", "full"}, []string{"run", "-f", params, "--param", "must=v1", "--param", "pick=ful"}},
		{2, []string{"yes"}, []string{"run", "-f", params, "--param", "must=v1", "--param", "yes=maybe"}},
		{2, []string{"NAME=VALUE"}, []string{"run", "-f", params, "--param", "must"}},
		{2, []string{"twice"}, []string{"run", "-f", params, "--param", "must=v1", "--param", "must=v2"}},
		{2, []string{"no step has the id biuld", "build"}, []string{"run", "-f", params, "--param", "must=v1", "--only", "biuld"}},
		{2, []string{"no step has the id biuld", "build"}, []string{"run", "-f", params, "--param", "must=v1", "--skip", "biuld"}},
		{2, []string{"no such file"}, []string{"run", "-f", "nowhere.yaml"}},
		{2, []string{"git work tree"}, []string{"run"}},
		{2, []string{"git work tree"}, []string{"run", "release"}},
		{2, []string{"not both"}, []string{"run", "release", "-f", params}},
		{2, []string{"git work tree"}, []string{"run", "-f", params, "--sha", "HEAD"}},
		{2, []string{"git work tree"}, []string{"run", "-f", params, "--local"}},
		{5, []string{"there is no run", "slipway runs ls"}, []string{"runs", "show", "01zzzzzzzzzzzzzzzzzzzzzzzz"}},
		{5, []string{"there is no run"}, []string{"runs", "watch", "nosuchrun"}},
		{5, []string{"there is no run"}, []string{"logs", "nosuchrun/a"}},
		{5, []string{"there is no run"}, []string{"artifact", "ls", "nosuchrun"}},
		{5, []string{"there is no run"}, []string{"runs", "cancel", "nosuchrun"}},
		{5, []string{"there is no run"}, []string{"audit", "ls", "--run", "nosuchrun"}},
		{5, []string{`no step "b"`, "it has a"}, []string{"step", "show", ids[0] + "/b"}},
		{5, []string{`no step "b"`}, []string{"logs", ids[0] + "/b"}},
		{5, []string{"no attempt 2"}, []string{"logs", ids[0] + "/a#2"}},
		{5, []string{"none.txt"}, []string{"artifact", "get", ids[0], "none.txt"}},
		{5, []string{"there is no agent"}, []string{"agent", "show", "nobody"}},
		{5, []string{`no tenant "acme"`}, []string{"run", "-f", params, "--param", "must=v1", "-t", "acme"}},
		{2, []string{ids[0], ids[1], "give more of the id"}, []string{"runs", "show", common}},
		{2, []string{"is a step: slipway step show"}, []string{"runs", "show", ids[0] + "/a"}},
		{2, []string{"it must look like RUN/STEP"}, []string{"step", "show", ids[0] + "/"}},
		{2, []string{"attempt's number"}, []string{"logs", ids[0] + "/a#x"}},
		{2, []string{"no run state", "passed"}, []string{"runs", "ls", "--state", "green"}},
		{2, []string{"limit"}, []string{"runs", "ls", "--limit", "501"}},
		{2, []string{"-o takes"}, []string{"runs", "ls", "-o", "xml"}},
		{2, []string{"unknown command", `"shw"`}, []string{"runs", "shw"}},
		{2, []string{"unknown flag"}, []string{"runs", "ls", "--nope"}},
		{2, []string{"unknown command"}, []string{"rnus"}},
	} {
		f.code(tt.code, tt.say, tt.args...)
	}
	if got := strings.TrimSpace(f.must("runs", "show", ids[1][len(ids[1])-8:], "-o", "name").stdout); got != ids[1] {
		t.Errorf("the end of an id finds %q, want %s", got, ids[1])
	}
	if n := len(strings.Fields(f.must("runs", "ls", "-o", "name").stdout)); n != 2 {
		t.Errorf("there are %d runs, want 2", n)
	}
}

// TestE2EAccess: who has no token, a wrong one, or no server.
func TestE2EAccess(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	with := func(env ...string) result {
		cmd := f.command("runs", "ls")
		cmd.Env = f.environ(env...)
		return f.finish(cmd)
	}
	url := "SLIPWAY_URL=" + f.URL
	with(url, "SLIPWAY_TOKEN=wrong").ends(t, 6, "token is not known here", f.TokenFile)
	with(url, "SLIPWAY_TOKEN="+f.token).ends(t, 0)
	with().ends(t, 0) // a dev that runs here is found by its announcement
	with(url).ends(t, 0)
	with("SLIPWAY_URL=ftp://x").ends(t, 2, "http://HOST:PORT")
	with(url, "SLIPWAY_TOKEN=wrong", "XDG_STATE_HOME="+f.path("nobody")).ends(t, 6)
	with(url, "XDG_STATE_HOME="+f.path("nobody")).ends(t, 6, "no token", "SLIPWAY_TOKEN")
	with("XDG_STATE_HOME="+f.path("nobody")).ends(t, 8, "slipway dev", "SLIPWAY_URL")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "SLIPWAY_URL=http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	with(closed, "SLIPWAY_TOKEN=x").ends(t, 8, "no server answers at", "SLIPWAY_URL")
	f.kill()
	with().ends(t, 8, "slipway dev") // what the killed one announced does not count
	with(url, "SLIPWAY_TOKEN="+f.token).ends(t, 8, "no server answers at "+f.URL)
	f.restart()
	with().ends(t, 0)
}

// TestE2EQueueFull fills a tenant's queue.
func TestE2EQueueFull(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	api := f.api()
	yaml := "timeout: 5m\ndefaults: { executor: process, queue: nobody }\nsteps:\n- { id: first, run: exit 0 }\n" + strings.Repeat("- { needs: [first], run: exit 0 }\n", 1999)
	begin := time.Now()
	var clients errgroup.Group
	clients.SetLimit(4)
	for range ci.DefaultMaxQueued / 2000 {
		clients.Go(func() error {
			var res submitAnswer
			return api.call("RunService/SubmitRun", map[string]any{"workflow_yaml": yaml, "file": "full.yaml"}, &res)
		})
	}
	if err := clients.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d waiting steps submitted in %s; RSS %s", ci.DefaultMaxQueued, time.Since(begin).Round(time.Millisecond), f.rss())
	file := f.workflow(head + "steps: [{ id: a, run: exit 0 }]\n")
	f.code(8, []string{"the queue of tenant default is full", "try again later"}, "run", "-f", file)

	// Whoever makes room may come in.
	oldest := strings.Fields(f.must("runs", "ls", "--limit", "100", "-o", "name").stdout)[0]
	f.must("runs", "cancel", oldest)
	f.awaitRun(oldest, "canceled")
	r := f.submit(head + "steps: [{ id: a, run: exit 0 }]\n")
	if r = f.wait(r.ID); r.State != "passed" {
		t.Errorf("a run beside the full queue is %s", r.State)
	}
}
