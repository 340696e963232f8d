package state

import (
	"fmt"
	"slices"
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
)

func TestWatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	watch := w.s.Watch()
	defer watch.Close()
	<-watch.C()
	if !watch.Changed().All {
		t.Fatal("a new watcher is not told All")
	}
	w.must(&Tick{})
	select {
	case <-watch.C():
		t.Fatal("a tick wakes")
	default:
	}
	w.create("r2", def("s"))
	w.create("r1", def("s"))
	w.bring("r1", "s", ci.AttemptRunning)
	<-watch.C()
	c := watch.Changed()
	if c.All || !slices.Equal(c.Runs, []ci.RunID{"r1", "r2"}) || !slices.Equal(c.Agents, []ci.AgentID{"a1"}) || !slices.Equal(c.Tenants, []ci.TenantID{"default"}) {
		t.Fatalf("changes %+v", c)
	}
	if c := watch.Changed(); c.All || c.Runs != nil || c.Agents != nil || c.Tenants != nil {
		t.Fatalf("told twice: %+v", c)
	}
	watch.Close()
	w.create("r3", def("s"))
	if c := watch.Changed(); c.Runs != nil {
		t.Fatal("a closed watcher is told")
	}
}

func TestWatchOverflow(t *testing.T) {
	t.Parallel()
	s := New()
	watch := s.Watch()
	defer watch.Close()
	watch.Changed()
	for i := range maxChanges + 1 {
		c := newChangeSet()
		c.runs[ci.RunID(fmt.Sprint(i))] = struct{}{}
		s.tell(&c)
	}
	if !watch.Changed().All {
		t.Error("an overflow is not told as All")
	}
}

func TestFindRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, id := range []ci.RunID{"01aaa", "01abb", "02abb", "01a"} {
		w.create(id, def("s"))
	}
	for part, want := range map[string][]ci.RunID{
		"01ab": {"01abb"}, "abb": {"01abb", "02abb"}, "02": {"02abb"}, "aaa": {"01aaa"},
		"01a": {"01a"}, "01": {"01a", "01aaa", "01abb"}, "x": nil, "": nil,
	} {
		if got := w.s.View().FindRun(part); !slices.Equal(got, want) {
			t.Errorf("%q finds %q, want %q", part, got, want)
		}
	}
	var got []ci.RunID
	list := func(before ci.RunID) {
		got = nil
		w.s.View().RunsDesc(before, func(r *ci.Run) bool {
			got = append(got, r.ID)
			return len(got) < 2
		})
	}
	if list(""); !slices.Equal(got, []ci.RunID{"02abb", "01abb"}) {
		t.Errorf("newest: %q", got)
	}
	if list("01abb"); !slices.Equal(got, []ci.RunID{"01aaa", "01a"}) {
		t.Errorf("before 01abb: %q", got)
	}
	if list("01b"); !slices.Equal(got, []ci.RunID{"01abb", "01aaa"}) {
		t.Errorf("before what is not there: %q", got)
	}
}
