package expr

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/shared/ci"
)

func TestRenderStep(t *testing.T) {
	t.Parallel()
	run := testRun()
	step := &ci.Step{
		ID: "unit.go-1.25", Executor: "docker", Image: "golang:${{ params.suite }}", Run: "echo ${{ not touched }}",
		Queue: "q-${{ params.replicas }}", Tags: map[string]string{"size": "${{ params.suite }}"},
		Env:       map[string]string{"A": "${{ steps.build.outputs.digest }}", "LEVEL": "${{ 1 % 0 }}", "W": "step"},
		Artifacts: []ci.ArtifactSpec{{Name: "cover-${{ shard.index }}", Paths: []string{"out/${{ params.suite }}/*"}}},
		Caches:    []ci.CacheSpec{{Path: "/c", Key: "mod-${{ hash('go.{mod,sum}', \"x\") }}-${{ params.suite }}", Restore: []string{"mod-${{ params.replicas }}"}}},
	}
	before := *step
	got, err := RenderStep(run, step)
	if err != nil {
		t.Fatal(err)
	}
	want := *step
	want.Image, want.Queue = "golang:smoke", "q-3"
	want.Tags = map[string]string{"size": "smoke"}
	want.Env = map[string]string{"A": "sha256:1", "LEVEL": "${{ retry }}", "W": "step", "SUITE": "smoke"}
	want.Artifacts = []ci.ArtifactSpec{{Name: "cover-0", Paths: []string{"out/smoke/*"}}}
	want.Caches = []ci.CacheSpec{{Path: "/c", Key: "mod-{{hash:go.%7Bmod%2Csum%7D,x}}-smoke", Restore: []string{"mod-3"}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("rendered step (-want +got):\n%s", d)
	}
	if d := cmp.Diff(before, *step); d != "" {
		t.Errorf("the original changed:\n%s", d)
	}
	key, err := ResolveHashes(got.Caches[0].Key, func(globs []string) (string, error) { return strings.Join(globs, "|"), nil })
	if err != nil || key != "mod-go.{mod,sum}|x-smoke" {
		t.Errorf("key %q, %v", key, err)
	}
}

func TestRenderStepExecutor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		executor, image, run string
		wantImage, wantErr   string
	}{
		{"docker", "x:1", "", "x:1", ""},
		{"process", "x:1", "true", "", ""},
		{"process", "", "", "", "nothing to run"},
		{"docker", "", "true", "", "has no image"},
		{"${{ params.notes }}", "x", "true", "", "it must be docker or process"},
		{"${{ 'process' }}", "x", "true", "", ""},
		{"docker", "x:${{ params.nope }}", "", "", "image: cannot render"},
	} {
		got, err := RenderStep(testRun(), &ci.Step{ID: "build", Executor: c.executor, Image: c.image, Run: c.run})
		switch {
		case c.wantErr != "":
			if err == nil || !strings.Contains(err.Error(), c.wantErr) || ci.KindOf(err) != ci.Invalid {
				t.Errorf("%+v: %v", c, err)
			}
		case err != nil || got.Image != c.wantImage:
			t.Errorf("%+v: %q, %v", c, got.Image, err)
		}
	}
}

func TestRunStateInFinally(t *testing.T) {
	t.Parallel()
	run := testRun()
	state := func(step string) string { return runState(run, step) }
	if got := state("build"); got != "running" {
		t.Errorf("normal step: %s", got)
	}
	if got := state("report"); got != "failed" {
		t.Errorf("a step failed: %s", got)
	}
	run.Steps[1].State = ci.StepSoftFailed
	if got := state("report"); got != "passed" {
		t.Errorf("soft failure: %s", got)
	}
	run.Cancel = &ci.CancelRequest{Reason: ci.ReasonCanceledUser}
	if got := state("report"); got != "canceled" {
		t.Errorf("canceled: %s", got)
	}
	run.Cancel = &ci.CancelRequest{Reason: ci.ReasonTimeout}
	if got := state("report"); got != "timed_out" {
		t.Errorf("timed out: %s", got)
	}
	run.State = ci.RunPassed
	if got := state("report"); got != "passed" {
		t.Errorf("finished: %s", got)
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"PARAM_SUITE": "full", "PARAM_DRY_RUN": "true", "PARAM_REPLICAS": "3", "PARAM_RATIO": "0.5", "PARAM_NOTES": "it's \"x\"",
		"STEP_BUILD_DIGEST": "sha256:1", "STEP_PLAN_SERVICES_COUNT": "2", "STEP_PLAN_SERVICES_A_B": "z", "RUN_STATE": "failed",
	}
	if d := cmp.Diff(want, Variables(testRun(), "report")); d != "" {
		t.Error(d)
	}
	if got := Variables(testRun(), "unit.go-1.25"); got["PARAM_SUITE"] != "smoke" || got["RUN_STATE"] != "" {
		t.Errorf("overridden: %v", got)
	}
}

func TestResolveHashes(t *testing.T) {
	t.Parallel()
	fail := errors.New("no such file")
	if _, err := ResolveHashes("{{hash:a}}", func([]string) (string, error) { return "", fail }); !errors.Is(err, fail) {
		t.Errorf("got %v", err)
	}
	if _, err := ResolveHashes("x{{hash:a", nil); ci.KindOf(err) != ci.Invalid {
		t.Errorf("got %v", err)
	}
	for _, glob := range []string{"a%2Cb", "{a,b}", "%", "}}", "{{hash:x}}", "é"} {
		token, _ := hashToken(glob, "z")
		got, err := ResolveHashes("k-"+token.(string)+"-k", func(g []string) (string, error) { return g[0], nil })
		if err != nil || got != "k-"+glob+"-k" {
			t.Errorf("%s: %q, %v", glob, got, err)
		}
	}
}

// Many goroutines render many different expressions: the cache of programs
// stays bounded and every answer is right.
func TestConcurrentRendering(t *testing.T) {
	t.Parallel()
	var g errgroup.Group
	g.SetLimit(8)
	for i := range 400 {
		g.Go(func() error {
			run := testRun()
			for j := range 20 {
				src := fmt.Sprintf("${{ params.replicas + %d }}", i*j)
				got, err := Interpolate(src, ForRun(run, "build"))
				if err != nil || got != fmt.Sprint(3+i*j) {
					return fmt.Errorf("%s: %q, %w", src, got, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	programs.mu.Lock()
	defer programs.mu.Unlock()
	if n := len(programs.young) + len(programs.old); n > 2*programs.limit {
		t.Errorf("%d programs kept", n)
	}
}

// A text cannot grow without bounds, however it is put together.
func TestRenderedSizeIsBounded(t *testing.T) {
	t.Parallel()
	run := testRun()
	run.Params["notes"] = strings.Repeat("a", 60<<10)
	for _, src := range []string{
		strings.Repeat("${{ params.notes }}", 3),
		`${{ replace(params.notes, "a", "aaaa") }}`,
	} {
		if got, err := Interpolate(src, ForRun(run, "build")); err == nil {
			t.Errorf("%s: %d bytes", src, len(got))
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	env := NewEnv(testRun().Workflow)
	b.ReportAllocs()
	for b.Loop() {
		env.Check(Condition, `params.suite == "full" || steps.build.outputs.digest != ref.name`)
	}
}

func BenchmarkInterpolate(b *testing.B) {
	s := ForRun(testRun(), "build")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Interpolate("golang:${{ params.suite }}-${{ run.short_sha }}", s)
	}
}
