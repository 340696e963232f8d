package main

import (
	"errors"
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
)

func TestParseRef(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]stepRef{
		"r1":          {run: "r1"},
		"r1/build":    {run: "r1", step: "build"},
		"r1/build#2":  {run: "r1", step: "build", attempt: 2},
		"r1/a.b-c#10": {run: "r1", step: "a.b-c", attempt: 10},
	} {
		got, err := parseRef(text)
		if err != nil || got != want {
			t.Errorf("parseRef(%q) = %+v, %v; want %+v", text, got, err, want)
		}
		if got.String() != text {
			t.Errorf("%q comes back as %q", text, got.String())
		}
	}
	for _, text := range []string{"", "/", "r1/", "/build", "r1/build#", "r1/build#0", "r1/build#x", "r1/build#1x", "r1/#1"} {
		if ref, err := parseRef(text); err == nil {
			t.Errorf("parseRef(%q) = %+v, want an error", text, ref)
		}
	}
	if _, err := parseStepRef("r1"); err == nil {
		t.Error("parseStepRef takes a run without a step")
	}
}

func TestPairs(t *testing.T) {
	t.Parallel()
	got, err := pairs("--param", []string{"a=1", "b=x=y", "c="})
	if err != nil || got["a"] != "1" || got["b"] != "x=y" || got["c"] != "" || len(got) != 3 {
		t.Errorf("pairs = %v, %v", got, err)
	}
	for _, bad := range [][]string{{"a"}, {"=1"}, {"a=1", "a=2"}} {
		if _, err := pairs("--param", bad); err == nil {
			t.Errorf("pairs(%v) is accepted", bad)
		}
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for kind, want := range map[ci.Kind]int{
		ci.Invalid: 2, ci.Conflict: 2, ci.Unsupported: 2, ci.NotFound: 5, ci.Unauthenticated: 6,
		ci.Forbidden: 6, ci.Unavailable: 8, ci.Exhausted: 8, ci.Internal: 9, ci.Canceled: 130,
	} {
		if got := kindCode(ci.Errorf(kind, "x")); got != want {
			t.Errorf("kind %v exits %d, want %d", kind, got, want)
		}
	}
	if got := kindCode(errors.New("open x: no such file")); got != exitUsage {
		t.Errorf("a plain error exits %d", got)
	}
}

func TestShortAndSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 200 << 20: "200 MiB", 3 << 40: "3.0 TiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%v) = %q, want %q", n, got, want)
		}
	}
}
