package s3dev

import (
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
)

// The working directory belongs to the whole program: who changes it in one
// place breaks every relative path in the others.
func TestElsewhereChangesNothingForOthers(t *testing.T) {
	want, err := os.Readlink("/proc/self/cwd")
	if err != nil {
		t.Fatal(err)
	}
	away := t.TempDir()
	var over atomic.Bool
	var g errgroup.Group
	g.Go(func() error {
		defer over.Store(true)
		for range 200 {
			if err := elsewhere(func() error { return os.Chdir(away) }); err != nil {
				return err
			}
		}
		return nil
	})
	for !over.Load() {
		if _, err := os.Stat("elsewhere_test.go"); err != nil {
			t.Errorf("a relative path misses: %v", err)
			break
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, of := range []string{"self", "thread-self"} {
		if got, err := os.Readlink("/proc/" + of + "/cwd"); err != nil || got != want {
			t.Errorf("the working directory of %s is %s (%v), was %s", of, got, err, want)
		}
	}
}
