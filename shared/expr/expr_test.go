package expr

import (
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
)

func testRun() *ci.Run {
	w := &ci.Workflow{
		Name: "payments",
		Params: []ci.Param{
			{Name: "suite", Type: ci.ParamChoice},
			{Name: "dry_run", Type: ci.ParamBoolean},
			{Name: "replicas", Type: ci.ParamInteger},
			{Name: "ratio", Type: ci.ParamNumber},
			{Name: "notes", Type: ci.ParamString},
		},
		Env: map[string]string{"SUITE": "${{ params.suite }}", "LEVEL": "workflow", "W": "1"},
		Steps: []ci.Step{
			{ID: "build", Outputs: map[string]string{"digest": "image.digest", "image-tag": "image-tag"}},
			{ID: "plan-services", Outputs: map[string]string{"count": "count", "a.b": "a.b"}},
			{ID: "unit.go-1.25"},
			{ID: "report", Finally: true},
		},
	}
	return &ci.Run{
		ID: "01jd0000000000000000abcdef", Tenant: "acme", Workflow: w, State: ci.RunRunning,
		Source: ci.Source{SHA: "0123456789abcdef0123456789abcdef01234567", Ref: "refs/heads/main", Branch: "main"},
		Params: map[string]string{"suite": "full", "dry_run": "true", "replicas": "3", "ratio": "0.5", "notes": "it's \"x\""},
		Steps: []*ci.StepRun{
			{ID: "build", State: ci.StepPassed, Outputs: map[string]string{"image.digest": "sha256:1"}},
			{ID: "plan-services", State: ci.StepFailed, Outputs: map[string]string{"count": "2", "a.b": "z"}},
			{ID: "unit.go-1.25", State: ci.StepSkipped, Override: ci.Override{Params: map[string]string{"suite": "smoke"}, Env: map[string]string{"LEVEL": "${{ retry }}"}}},
			{ID: "report", State: ci.StepPending},
		},
	}
}

func TestEval(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]bool{
		``:     true,
		`true`: true,
		`params.suite == "full" || ref.name == "main"`:                     true,
		`params.suite == 'smoke'`:                                          false,
		`params.dry_run`:                                                   true,
		`!params.dry_run`:                                                  false,
		`params.replicas > 2 and params.ratio < 1`:                         true,
		`params.replicas in [1, 2, 3]`:                                     true,
		`params.suite not in ["smoke"]`:                                    true,
		`steps.build.state == "passed"`:                                    true,
		`steps.build.outputs.digest == "sha256:1"`:                         true,
		`steps.build.outputs.image-tag == ""`:                              true,
		`steps["plan-services"].outputs.count == "2"`:                      true,
		`steps.plan-services.outputs.count == "2"`:                         true,
		`steps.plan-services.outputs.a.b == "z"`:                           true,
		`int(steps.plan-services.outputs.count)-1 == 1`:                    true,
		`steps.unit.go-1.25.state == "skipped"`:                            true,
		`steps.plan-services.state == "failed" && "steps.x.state" != "y"`:  true,
		`run.short_sha == "0123456" && len(run.sha) == 40`:                 true,
		`run.short_id == "00abcdef" && run.event == "dispatch"`:            true,
		`run.state == "running" && tenant.id == "acme"`:                    true,
		`ref.full startsWith "refs/heads/" && ref.tag == ""`:               true,
		`shard.index == 0 && shard.count == 1`:                             true,
		`ref.name matches "^(main|release/.*)$"`:                           true,
		`replace(ref.name, "m", "p") == "pain" && upper("a") == "A"`:       true,
		`params.notes == "it's \"x\""`:                                     true,
		`workflow.name == "payments" ? params.dry_run : false`:             true,
		`"x" in split("x,y", ",") && hasPrefix("abc", "a")`:                true,
		`steps.build?.state == "passed" && (run.sha ?? "") contains "abc"`: true,
		`run.sha[0:3] == "012"`:                                            true,
	} {
		got, err := Eval(src, ForRun(testRun(), "build"))
		if err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", src, got, err, want)
		}
	}
}

func TestEvalRefuses(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`params.suit == "x"`:              "no parameter is called suit (did you mean suite?)",
		`param.suite == "x"`:              "nothing is called param (did you mean params?)",
		`suite == "x"`:                    "did you mean params.suite?",
		`run.shaa == "x"`:                 "run has no shaa (did you mean sha?)",
		`run.sha.x == "x"`:                "type string has no field x",
		`steps.biuld.state == "x"`:        "no step has the id biuld (did you mean build?)",
		`steps.plan-servces.outputs.x`:    "no step has the id plan-servces (did you mean plan-services?)",
		`steps.build.outputs.digst == ""`: "step build has no output digst (did you mean digest?)",
		`steps.build.result == ""`:        "a step has no result (it has state and outputs)",
		`steps.build == ""`:               "steps.build is a group of values",
		`steps[params.suite].state == ""`: "must be written out",
		`params == "x"`:                   "params is a group of values",
		`matrix.go == "1"`:                "matrix is not available yet",
		`environment.name == "prod"`:      "environment is not available yet",
		`params.replicas == "3"`:          "mismatched types",
		`params.suite`:                    "the condition is text, not true or false",
		`params.replicas + 1`:             "the condition is an integer",
		`params.suite = "x"`:              "compare with ==",
		`params.suite == `:                "unexpected token EOF",
		`hash("go.sum") == ""`:            "only stand in the key of a cache",
		`now() == 1`:                      "no function now",
		`any([1], # > 0)`:                 "no function any",
		`let x = 1; x == 1`:               "let is not part",
		`1..3 == [1,2,3]`:                 "operator .. is not part",
		`true; false`:                     "one value",
		`upcase("a") == "A"`:              "no function upcase",
		`ref.name.foo()`:                  "no functions of their own",
		`1 % 0 == 1`:                      "divide by zero",
		`$env.params == nil`:              "nothing is called $env",
		`ref.name matches params.suite`:   "literal pattern",
		`ref.name matches "("`:            "bad pattern",
		`ref.name matches "(x{100}){9}y{900}z{900}z{900}"`: "too complex",
		strings.Repeat("(", 3000) + "true":                 "unexpected token EOF",
		strings.Repeat("true && ", 400) + "true":           "more than 500 parts",
		strings.Repeat(" ", 5000):                          "",
		strings.Repeat("x", 5000):                          "longer than 4 KiB",
		"\"\xff\"":                                         "not valid UTF-8",
	} {
		got, err := Eval(src, ForRun(testRun(), "build"))
		if want == "" {
			if err != nil || !got {
				t.Errorf("%.60s: %v, %v", src, got, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %v, %v; want error with %q", src, got, err, want)
			continue
		}
		if ci.KindOf(err) != ci.Invalid {
			t.Errorf("%.60s: kind %v", src, ci.KindOf(err))
		}
	}
}

func TestInterpolate(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"plain $VAR {{x}}":                        "plain $VAR {{x}}",
		"golang:${{ params.suite }}-x":            "golang:full-x",
		"${{params.replicas}}/${{params.ratio}}":  "3/0.5",
		"${{ params.dry_run }}":                   "true",
		`${{ "}}" }}${{ "${{" }}`:                 "}}${{",
		"${{ steps.build.outputs.image-tag }}":    "",
		"${{ params.replicas * 2 }}":              "6",
		`${{ params.dry_run ? "dry" : "wet" }}`:   "dry",
		"${{ steps.unit.go-1.25.state }}":         "skipped",
		"é${{ workflow.name }}é${{ tenant.id }}é": "épaymentséacmeé",
	} {
		got, err := Interpolate(src, ForRun(testRun(), "build"))
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", src, got, err, want)
		}
	}
	for src, want := range map[string]string{
		"a ${{ run.sha":         "without its }}",
		"${{ }}":                "empty",
		"${{ params }}":         "group of values",
		"${{ [1] }}":            "a list cannot stand in text",
		"${{ hash('go.sum') }}": "key of a cache",
	} {
		if got, err := Interpolate(src, ForRun(testRun(), "build")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v; want error with %q", src, got, err, want)
		}
	}
}

func TestCheckReportsEveryProblemWithItsPlace(t *testing.T) {
	t.Parallel()
	env := NewEnv(testRun().Workflow)
	src := `é ${{ params.suit }} ${{ steps.plan-services.state + steps.plan-x.state + run.shaa }}`
	refs, errs := env.Check(Text, src)
	want := []struct{ at, msg string }{
		{"suit }}", "no parameter is called suit"},
		{"steps.plan-x", "no step has the id plan-x"},
		{"shaa", "run has no shaa"},
	}
	if len(errs) != len(want) {
		t.Fatalf("got %v", errs)
	}
	for i, w := range want {
		if !strings.HasPrefix(src[errs[i].Off:], w.at) || errs[i].Msg != w.msg {
			t.Errorf("got %q at %q, want %q at %q", errs[i].Msg, src[errs[i].Off:], w.msg, w.at)
		}
	}
	if len(refs) != 1 || refs[0].String() != "steps.plan-services.state" || !strings.HasPrefix(src[refs[0].Off:], "steps.plan-s") {
		t.Errorf("refs %v", refs)
	}
}

func TestRefs(t *testing.T) {
	t.Parallel()
	env := NewEnv(testRun().Workflow)
	refs, errs := env.Check(Condition, `ref.name == params.suite && steps.build.outputs.digest != ""`)
	if len(errs) > 0 || len(refs) != 3 {
		t.Fatal(refs, errs)
	}
	if !refs[0].Untrusted() || refs[1].Untrusted() || refs[1].Variable() != "PARAM_SUITE" || refs[2].Variable() != "STEP_BUILD_DIGEST" {
		t.Errorf("refs %+v", refs)
	}
}

func TestUnwrap(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		" ${{ a }} ": " a ", "a": "a", "${{ a }} && ${{ b }}": "${{ a }} && ${{ b }}", "${{ a": "${{ a",
	} {
		if got, off := Unwrap(src); got != want || off > 0 && src[off:off+len(got)] != got {
			t.Errorf("%q: %q at %d", src, got, off)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{
		`params.suite == "full"`, `steps.plan-services.outputs.a.b`, `${{ hash('a', "b") }}-${{ x }}`,
		`a ? b : c`, `[1,2][0] in {"a": 1}`, `"é" matches "[a-z]+"`, `steps?.build?.state`, "steps.", "${{'}}'}}",
		`if true { 1 } else { 2 }`, `run.sha[1:]`, `a?.b()`, `#`, `.x`, `"\x00"`, `1 | abs`, `steps.a..b.state`,
	} {
		f.Add(s)
	}
	run := testRun()
	env := NewEnv(run.Workflow)
	scope := ForRun(run, "build")
	f.Fuzz(func(t *testing.T, src string) {
		for _, kind := range []Kind{Condition, Text, CacheKey} {
			refs, errs := env.Check(kind, src)
			for _, e := range errs {
				if e.Off < 0 || e.Off > len(src) {
					t.Errorf("offset %d of %q", e.Off, src)
				}
				if strings.Contains(e.Msg, "cannot be read") {
					t.Errorf("panic: %s", e.Msg)
				}
			}
			for _, r := range refs {
				if r.Off < 0 || r.Off >= len(src) {
					t.Errorf("reference offset %d of %q", r.Off, src)
				}
			}
		}
		_, _ = Eval(src, scope)
		_, _ = scope.interpolate(CacheKey, src)
	})
}
