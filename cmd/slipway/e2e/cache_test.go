//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/shared/needs"
)

// cacheWorkflow counts its runs in its caches: one below the workspace, one
// named by a file of the workspace and, where the step has files of its own, an
// absolute one.
const cacheWorkflow = `
name: cached
timeout: 2m
defaults: { WHERE }
steps:
  - id: count
    run: |
      for d in .cache/deep .cache/hashed /e2e/cache; do
        if ! [ -d "$d" ]; then continue; fi
        echo x >> "$d/runs"
        echo "$d $(wc -l < "$d/runs" | tr -d ' ')"
      done
    cache:
      - { path: .cache/deep, key: relative }
      - { path: .cache/hashed, key: "by-${{ hash('lock.txt') }}" }
`

// TestE2ECaches: caches outlive runs and restarts, and executors share them.
func TestE2ECaches(t *testing.T) {
	t.Parallel()
	needs.Image(t, busybox)
	f := startFleet(t)
	process := strings.Replace(cacheWorkflow, "WHERE", "executor: process", 1)
	container := strings.Replace(cacheWorkflow, "WHERE", "image: "+busybox+", pull: never", 1) + "      - { path: /e2e/cache, key: absolute, scope: tenant }\n"
	repo := f.newRepo(map[string]string{".slipway/cached.yaml": process, "lock.txt": "one"})
	want := func(when, counts string) {
		t.Helper()
		res := f.in(repo.dir, "run", "--follow")
		if res.code != 0 {
			t.Fatalf("%s: %s", when, res)
		}
		got := ""
		for line := range strings.Lines(res.stdout) {
			if f := strings.Fields(line); len(f) == 4 && f[1] == "|" && strings.Contains(f[2], "/") {
				got += f[3]
			}
		}
		if got != counts {
			t.Errorf("%s: the caches count %q, want %q\n%s", when, got, counts, res)
		}
	}
	want("first", "11")
	want("second", "22")
	repo.commit(map[string]string{"lock.txt": "two"})
	want("with another hash", "31")
	repo.commit(map[string]string{".slipway/cached.yaml": container})
	want("in a container", "421")
	f.restart()
	want("after a restart", "532")
	repo.commit(map[string]string{"lock.txt": "one"})
	want("with the first hash again", "633")
	repo.commit(map[string]string{".slipway/cached.yaml": process + "      - { path: /e2e/cache, key: absolute }\n"})
	if res := f.in(repo.dir, "run"); res.code != 7 || !strings.Contains(res.stderr, "below the workspace") {
		t.Errorf("an absolute cache of a process step: %s", res)
	}
	f.nothingLeft()
}
