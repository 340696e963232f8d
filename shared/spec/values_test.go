package spec

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/shared/ci"
)

func parse(t *testing.T, src string) *ci.Workflow {
	t.Helper()
	w, problems := Parse([]byte(src), Options{File: "test.yaml"})
	if w == nil {
		t.Fatal(problems)
	}
	return w
}

const paramFile = `
timeout: 5m
params:
  suite: { type: choice, options: [smoke, full], default: smoke }
  replicas: { type: integer, min: 1, max: 20 }
  ratio: { type: number, default: 0.50 }
  dry_run: { type: boolean, default: true }
  notes: { type: string, default: "", max_length: 5 }
  ticket: { type: string, pattern: "[A-Z]+-[0-9]+", default: "A-1", description: What it is for }
steps: [{ id: build, run: x, image: "a:1" }, { id: build-docs, run: x, image: "a:1" }]
`

func TestParams(t *testing.T) {
	t.Parallel()
	w := parse(t, paramFile)
	got, err := Params(w, map[string]string{"replicas": "+07", "ratio": "1e3", "dry_run": "No", "notes": "héééé"})
	want := map[string]string{"suite": "smoke", "replicas": "7", "ratio": "1000", "dry_run": "false", "notes": "héééé", "ticket": "A-1"}
	if err != nil || !cmp.Equal(want, got) {
		t.Errorf("got %v, %v", got, err)
	}
	for name, c := range map[string]struct {
		given       map[string]string
		field, want string
	}{
		"missing":  {nil, "replicas", "parameter replicas is missing: it takes a whole number (--param replicas=VALUE)"},
		"unknown":  {map[string]string{"replicas": "1", "siute": "full"}, "siute", "no parameter is called siute: did you mean suite?"},
		"choice":   {map[string]string{"replicas": "1", "suite": "fulll"}, "suite", `"fulll" is none of smoke, full: did you mean full?`},
		"bounds":   {map[string]string{"replicas": "21"}, "replicas", "21 is more than 20"},
		"low":      {map[string]string{"replicas": "0"}, "replicas", "0 is less than 1"},
		"integer":  {map[string]string{"replicas": "1.5"}, "replicas", `"1.5" is no whole number`},
		"number":   {map[string]string{"replicas": "1", "ratio": "NaN"}, "ratio", `"NaN" is no number`},
		"infinite": {map[string]string{"replicas": "1", "ratio": "inf"}, "ratio", `"inf" is no number`},
		"boolean":  {map[string]string{"replicas": "1", "dry_run": "maybe"}, "dry_run", `"maybe" is not true or false`},
		"length":   {map[string]string{"replicas": "1", "notes": "123456"}, "notes", "6 characters are more than 5"},
		"pattern":  {map[string]string{"replicas": "1", "ticket": "xA-1"}, "ticket", `does not match [A-Z]+-[0-9]+`},
		"NUL":      {map[string]string{"replicas": "1", "notes": "\x00"}, "notes", "not valid text"},
		"huge":     {map[string]string{"replicas": "1", "notes": strings.Repeat("x", MaxParamLength+1)}, "notes", "longer than 64 KiB"},
		"several":  {map[string]string{"suite": "x", "zzz": "1"}, "suite", `"x" is none of smoke, full; parameter replicas is missing: it takes a whole number (--param replicas=VALUE); no parameter is called zzz`},
	} {
		_, err := Params(w, c.given)
		var e *ci.Error
		if !errors.As(err, &e) || e.Kind != ci.Invalid || e.Field != c.field || !strings.Contains(e.Msg, c.want) {
			t.Errorf("%s: got %+v, want field %s and %q", name, err, c.field, c.want)
		}
	}
	none := parse(t, "timeout: 5m\nsteps: [{ run: x, image: 'a:1' }]")
	if _, err := Params(none, map[string]string{"a": "b"}); err == nil || !strings.Contains(err.Error(), "the workflow takes none") {
		t.Errorf("got %v", err)
	}
	if got, err := Params(none, nil); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	w := parse(t, paramFile)
	if err := Select(w, []string{"build"}, []string{"build-docs"}); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		only, skip  []string
		field, want string
	}{
		{[]string{"biuld"}, nil, "only", "no step has the id biuld: did you mean build?"},
		{nil, []string{"zzz"}, "skip", "no step has the id zzz: there is build, build-docs"},
		{[]string{"build"}, []string{"build"}, "skip", "both in only and in skip"},
	} {
		err := Select(w, c.only, c.skip)
		var e *ci.Error
		if !errors.As(err, &e) || e.Kind != ci.Invalid || e.Field != c.field || !strings.Contains(e.Msg, c.want) {
			t.Errorf("%v %v: %v", c.only, c.skip, err)
		}
	}
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{
		"0": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour,
		"1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "-1d": -24 * time.Hour,
	} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "30", "d", "1y", "1d-1h", "1d1d", "NaNd", "1e9d", "x", "1h1d"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{
		"0": 0, "1024": 1024, "4Gi": 4 << 30, "512Mi": 512 << 20, "2GB": 2e9, "1.5G": 15e8, "10KiB": 10240,
		"1k": 1000, "1T": 1e12, "7B": 7, "3 Mi": 3 << 20,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "Gi", "-1", "1X", "NaN", "inf", "1e30", "1GiGi", "4 Gigs"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// A step without needs waits for every step above it, also in files so long
// that the list is shortened: then the last of each chain stands for the rest.
func TestSeries(t *testing.T) {
	t.Parallel()
	w := parse(t, `
timeout: 5m
defaults: { image: "a:1" }
steps:
  - { id: a, run: x, needs: [] }
  - { id: b, run: x, needs: [] }
  - { id: c, run: x }
  - { id: d, run: x, needs: [a] }
  - { id: e, run: x }
finally:
  - { id: f, run: x }
  - { id: g, run: x }
`)
	want := map[string][]string{"a": {}, "b": {}, "c": {"a", "b"}, "d": {"a"}, "e": {"a", "b", "c", "d"}, "f": nil, "g": {"f"}}
	for _, s := range w.Steps {
		if d := cmp.Diff(want[s.ID], s.Needs); d != "" && len(want[s.ID])+len(s.Needs) > 0 {
			t.Errorf("%s: %s", s.ID, d)
		}
	}
	long := parse(t, "timeout: 5m\ndefaults: { image: 'a:1' }\nsteps:\n"+
		strings.Repeat("  - { run: x, needs: [] }\n", 3)+"  - { run: x, skip: y }\n"+strings.Repeat("  - { run: x }\n", 500))
	for i, want := range map[int][]string{
		3: {"step-1", "step-2", "step-3"},
		4: {"step-1", "step-2", "step-3", "step-4"}, // the skipped one holds nobody up
		5: {"step-5"},
		9: {"step-9"},
	} {
		if d := cmp.Diff(want, long.Steps[i].Needs); d != "" {
			t.Errorf("step %d: %s", i+1, d)
		}
	}
}

func TestDefaultName(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"": "workflow", ".slipway/nightly.yaml": "nightly", `C:\x\a.b.yml`: "a.b", "/": "workflow", ".yaml": "workflow",
	} {
		if got := defaultName(file); got != want {
			t.Errorf("%q: %q", file, got)
		}
	}
}

func TestSlug(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"vet + lint": "vet-lint", "Build": "build", "--x--": "x", "日本": "", "a/b": "a-b", "go 1.26": "go-1.26",
		strings.Repeat("ab ", 50): strings.Repeat("ab-", 21) + "a",
	} {
		got := slug(name)
		if got != want || got != "" && !stepID.MatchString(got) {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
