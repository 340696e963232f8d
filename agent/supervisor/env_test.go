package supervisor

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
)

var update = flag.Bool("update", false, "rewrite testdata")

func fullInput() envInput {
	a := assignment(func(a *Assignment) {
		a.Number, a.RunState = 2, ci.RunFailed
		a.Params = map[string]string{"suite": "full", "dry-run": "true"}
		a.Outputs = map[string]string{"STEP_IMAGE_DIGEST": "sha256:1"}
		a.Source = ci.Source{Repo: "https://git/pay", SHA: "abc", Ref: "refs/heads/main", Branch: "main"}
		a.Step.Env = map[string]string{"CI": "1", "GOPROXY": "off", "AWS_REGION": "mine", "LOG_PATH": "/evil", "SLIPWAY_FENCE": "0", "SLIPWAY_OWN": "kept"}
	})
	return envInput{
		Assignment: &a, StepEnv: map[string]string{"GOPROXY": "http://proxy", "HTTP_PROXY": "http://p", "PARAM_SUITE": "x"},
		URL: "unix:///.slipway/api.sock", Token: "token", ReportDir: "/a/report",
		Workspace: Workspace{Dir: "/w/unit", Mirror: "/m/pay"},
		S3:        S3Grant{AccessKey: "AK", SecretKey: "SK", Endpoint: "http://10.0.0.1:9000", Region: "us-east-1"},
	}
}

func TestEnvironmentGolden(t *testing.T) {
	t.Parallel()
	env, refused := environment(fullInput())
	if diff := cmp.Diff([]string{"LOG_PATH", "SLIPWAY_FENCE"}, refused); diff != "" {
		t.Error(diff)
	}
	got := strings.Join(env, "\n") + "\n"
	if *update {
		if err := os.WriteFile("testdata/env.golden", []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/env.golden")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironmentLeavesOut(t *testing.T) {
	t.Parallel()
	in := fullInput()
	in.S3, in.URL, in.Workspace.Mirror, in.RunState, in.Step.Env = S3Grant{}, "", "", "", nil
	env, refused := environment(in)
	if refused != nil {
		t.Errorf("refused %v", refused)
	}
	for _, kv := range env {
		for _, prefix := range []string{"AWS_", "SLIPWAY_URL", "SLIPWAY_TOKEN", "GIT_CONFIG", "RUN_STATE"} {
			if strings.HasPrefix(kv, prefix) {
				t.Errorf("%s is there", kv)
			}
		}
	}
}

func TestSpec(t *testing.T) {
	t.Parallel()
	e := &Entry{
		Assignment: assignment(func(a *Assignment) {
			a.Step = ci.Step{ID: "unit", Image: "golang", Docker: ci.DockerRaw, Run: "make", CancelSignal: "SIGINT", Resources: ci.Resources{Memory: 1}}
		}),
		Workspace: Workspace{Dir: "/w", Mirror: "/m"},
		Caches:    []CacheLease{{Source: "/h/1", Target: "/go/pkg"}, {Source: "/h/2", Target: "node_modules"}},
	}
	got := specOf(e, "/a", "/a/report", "/run/api", []string{"A=b"})
	want := runtime.Spec{
		Attempt: "01attempt", Tenant: "pay", Run: "01run", Step: "unit", Image: "golang", Script: "make",
		Env: []string{"A=b"}, WorkDir: "/w", Resources: ci.Resources{Memory: 1}, StopSignal: "SIGINT", Dir: "/a",
		Mounts: []runtime.Mount{
			{Source: "/w", Target: "/w"},
			{Source: "/a/report", Target: "/a/report"},
			{Source: "/m", Target: "/m", ReadOnly: true},
			{Source: "/h/1", Target: "/go/pkg"},
			{Source: "/h/2", Target: "/w/node_modules"},
			{Source: "/run/api", Target: "/.slipway"},
			{Source: "/var/run/docker.sock", Target: "/var/run/docker.sock"},
		},
		Writable: []string{"/w", "/h/1", "/h/2"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	e.Assignment.Step.Run = ""
	if got := specOf(e, "/a", "/a/report", "", nil); got.WorkDir != "" {
		t.Errorf("the image's own entry point works in %s", got.WorkDir)
	}
	e.Assignment.Step.Image, e.Assignment.Step.Command = "", []string{"make"}
	got = specOf(e, "/a", "/a/report", "/run/api", nil)
	if len(got.Mounts) != 5 || got.WorkDir != "/w" {
		t.Errorf("a process gets %+v in %s", got.Mounts, got.WorkDir)
	}
	if apiURL(ci.ExecutorProcess, "/run/api") != "unix:///run/api/api.sock" || apiURL(ci.ExecutorDocker, "/run/api") != "unix:///.slipway/api.sock" {
		t.Error("the step API is elsewhere")
	}
}
