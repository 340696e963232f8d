package queue

import (
	"fmt"
	"slices"
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
)

func item(tenant string, n int) Item {
	return Item{Attempt: ci.AttemptID(fmt.Sprintf("%s%03d", tenant, n)), Tenant: ci.TenantID(tenant), Since: ci.ClusterTime(n)}
}

// drain takes up to n items in order.
func drain(f *Fair, n int) []ci.AttemptID {
	var got []ci.AttemptID
	f.Pass(func(i Item) bool {
		if len(got) == n {
			return false
		}
		got = append(got, i.Attempt)
		return true
	})
	return got
}

func TestFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	f := NewFair()
	for _, n := range []int{3, 1, 2} {
		f.Add(item("a", n))
		f.Add(item("a", n)) // a repeat keeps its place
	}
	if got := drain(f, 10); !slices.Equal(got, []ci.AttemptID{"a001", "a002", "a003"}) || f.Len() != 0 {
		t.Errorf("order is %v, %d left", got, f.Len())
	}
}

func TestTenantsTakeTurns(t *testing.T) {
	t.Parallel()
	f := NewFair()
	for n := range 50 {
		f.Add(item("flood", n))
	}
	f.Add(item("late", 60))
	f.Add(item("late", 61))
	got := drain(f, 4)
	if !slices.Equal(got, []ci.AttemptID{"flood000", "late060", "flood001", "late061"}) {
		t.Errorf("order is %v", got)
	}
}

func TestNobodySavesUpTurns(t *testing.T) {
	t.Parallel()
	f := NewFair()
	for n := range 20 {
		f.Add(item("a", n))
	}
	if got := drain(f, 10); len(got) != 10 {
		t.Fatal(got)
	}
	for n := range 20 {
		f.Add(item("b", 100+n)) // away while a had ten turns
	}
	counts := map[byte]int{}
	for _, id := range drain(f, 10) {
		counts[id[0]]++
	}
	if counts['a'] < 4 || counts['b'] < 4 {
		t.Errorf("after a pause the turns are %v, want about half each", counts)
	}
}

func TestRefusalShutsOnlyItsLane(t *testing.T) {
	t.Parallel()
	f := NewFair()
	big, small := item("a", 1), item("a", 2)
	big.Class = "big"
	f.Add(big)
	f.Add(small)
	f.Add(item("b", 3))
	offered := 0
	f.Pass(func(i Item) bool { offered++; return i.Class != "big" })
	if offered != 3 || f.Len() != 1 || !f.Has("a001") {
		t.Errorf("%d offered, %d left", offered, f.Len())
	}
	if next := item("a", 4); true {
		next.Class = "big"
		f.Add(next)
		if got := f.Ahead("a004"); got != 1 {
			t.Errorf("%d ahead", got)
		}
	}
	f.Remove("a001")
	f.Remove("nothing")
	if f.Len() != 1 {
		t.Errorf("%d left", f.Len())
	}
}
