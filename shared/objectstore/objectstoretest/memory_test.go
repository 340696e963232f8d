package objectstoretest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/objectstore"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) objectstore.Bucket { return Memory() })
}

func TestMemoryDown(t *testing.T) {
	fake := Memory()
	b := bucket{fake, ""}
	b.put(t, "a", "1")
	fake.Down(true)
	_, err := fake.Stat(t.Context(), "a")
	wantKind(t, err, ci.Unavailable)
	if diff := cmp.Diff([]string{"a"}, fake.Keys()); diff != "" {
		t.Error(diff)
	}
	fake.Down(false)
	if got := b.get(t, "a", 0, -1); got != "1" {
		t.Errorf("after the outage: %q", got)
	}
}
