package cache

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/needs"
)

func TestMain(m *testing.M) { needs.NoLeaks(m) }

func request(attempt ci.AttemptID, tenant ci.TenantID, specs ...ci.CacheSpec) Request {
	return Request{Attempt: attempt, Seed: []byte("seed"), Tenant: tenant, Workflow: "w", Step: "s", Caches: specs}
}

func quiet(string) {}

// use acquires one cache and returns its folder.
func use(t *testing.T, m *Manager, req Request) string {
	t.Helper()
	mounts, err := m.Acquire(t.Context(), req, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return mounts[0].Source
}

func put(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, "f"))
	if err != nil {
		return ""
	}
	return string(text)
}

func TestPersistsForItsOwnTenantOnly(t *testing.T) {
	t.Parallel()
	m := New(Config{Dir: t.TempDir()})
	spec := ci.CacheSpec{Path: "/c", Key: "k", Scope: "tenant"}
	put(t, use(t, m, request("1", "a", spec)), "of a")
	m.Release("1", true)
	if got := get(use(t, m, request("2", "a", spec))); got != "of a" {
		t.Errorf("the same tenant finds %q", got)
	}
	if got := get(use(t, m, request("3", "b", spec))); got != "" {
		t.Errorf("another tenant finds %q", got)
	}
	other := request("4", "a", spec)
	other.Seed = []byte("another cluster")
	if got := get(use(t, m, other)); got != "" {
		t.Errorf("another cluster finds %q", got)
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	for scope, shared := range map[string]bool{"tenant": true, "workflow": true, "": true, "step": false} {
		m := New(Config{Dir: t.TempDir()})
		spec := ci.CacheSpec{Path: "/c", Key: "k", Scope: scope}
		put(t, use(t, m, request("1", "a", spec)), "x")
		m.Release("1", true)
		next := request("2", "a", spec)
		next.Step = "other"
		if got := get(use(t, m, next)) != ""; got != shared {
			t.Errorf("scope %q: another step of the workflow shares it: %v, want %v", scope, got, shared)
		}
	}
}

func TestVolumeWithoutSuccessIsDropped(t *testing.T) {
	t.Parallel()
	m := New(Config{Dir: t.TempDir()})
	spec := ci.CacheSpec{Path: "/c", Key: "k"}
	put(t, use(t, m, request("1", "a", spec)), "half")
	m.Release("1", false)
	if got := get(use(t, m, request("2", "a", spec))); got != "" {
		t.Errorf("a failed step left %q", got)
	}
	put(t, use(t, m, request("3", "a", spec)), "whole")
	m.Release("2", false) // the third still uses it
	m.Release("3", true)
	if got := get(use(t, m, request("4", "a", spec))); got != "whole" {
		t.Errorf("found %q, want what the passed step left", got)
	}
	m.Release("4", false) // it served before, so one failure does not drop it
	if got := get(use(t, m, request("5", "a", spec))); got != "whole" {
		t.Errorf("found %q after a later failure", got)
	}
}

func TestRestoreFromPrefix(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m := New(Config{Dir: t.TempDir(), Now: func() time.Time { now = now.Add(time.Second); return now }})
	for i, key := range []string{"mod-1", "mod-2", "else"} {
		a := ci.AttemptID(rune('a' + i))
		put(t, use(t, m, request(a, "t", ci.CacheSpec{Path: "/c", Key: key})), key)
		m.Release(a, true)
	}
	spec := ci.CacheSpec{Path: "/c", Key: "mod-3", Restore: []string{"nothing-", "mod-"}}
	dir := use(t, m, request("x", "t", spec))
	if got := get(dir); got != "mod-2" {
		t.Errorf("restored %q, want the newest match", got)
	}
	put(t, dir, "mod-3")
	m.Release("x", true)
	if got := get(use(t, m, request("y", "t", ci.CacheSpec{Path: "/c", Key: "mod-2"}))); got != "mod-2" {
		t.Errorf("the copy changed its origin: %q", got)
	}
	if got := get(use(t, m, request("z", "other", spec))); got != "" {
		t.Errorf("another tenant restored %q", got)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m := New(Config{Dir: t.TempDir(), Now: func() time.Time { return now }})
	spec := ci.CacheSpec{Path: "/c", Key: "k", TTL: time.Hour, MaxSize: 10}
	put(t, use(t, m, request("1", "a", spec)), "short")
	m.Release("1", true)
	now = now.Add(2 * time.Hour)
	if got := get(use(t, m, request("2", "a", spec))); got != "" {
		t.Errorf("found %q after its ttl", got)
	}
	put(t, use(t, m, request("3", "a", spec)), "longer than ten bytes")
	m.Release("2", true)
	m.Release("3", true)
	if got := get(use(t, m, request("4", "a", spec))); got != "" {
		t.Errorf("found %q above its max_size", got)
	}
}

func TestExclusiveWaits(t *testing.T) {
	t.Parallel()
	m := New(Config{Dir: t.TempDir()})
	spec := ci.CacheSpec{Path: "/c", Key: "k", Mode: "exclusive"}
	use(t, m, request("1", "a", spec))
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := m.Acquire(ctx, request("2", "a", spec), func(string) { cancel() }); err == nil {
		t.Fatal("a second user got an exclusive volume")
	}
	waiting := make(chan struct{})
	var g lifecycle.Group
	got := false
	g.Add("second", func(ctx context.Context) error {
		_, err := m.Acquire(ctx, request("3", "a", spec), func(string) { close(waiting) })
		got = err == nil
		return err
	})
	g.Add("first", func(context.Context) error {
		<-waiting
		m.Release("1", true)
		return nil
	})
	if err := g.Run(t.Context()); err != nil || !got {
		t.Errorf("the second user did not get the volume: %v", err)
	}
}

func TestSweepAndAdopt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := New(Config{Dir: dir})
	good, bad, running := ci.CacheSpec{Path: "/c", Key: "good"}, ci.CacheSpec{Path: "/c", Key: "bad"}, ci.CacheSpec{Path: "/c", Key: "running"}
	put(t, use(t, m, request("1", "a", good)), "good")
	m.Release("1", true)
	put(t, use(t, m, request("2", "a", bad)), "bad")
	put(t, use(t, m, request("3", "a", running)), "running")
	again := New(Config{Dir: dir}) // as after a crash with two attempts in use
	again.Adopt(request("3", "a", running))
	if err := again.Sweep(); err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[*ci.CacheSpec]string{&good: "good", &bad: "", &running: "running"} {
		if got := get(use(t, again, request("4", "a", *spec))); got != want {
			t.Errorf("%s: found %q, want %q", spec.Key, got, want)
		}
	}
}
