package supervisor

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

func TestJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := OpenJournal(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	e := Entry{
		Assignment: assignment(), Stage: StageStarted, BootID: "b", Token: "t", Handle: runtime.Handle{ID: "c"},
		StartedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), StartedFor: time.Hour, Outcome: &Outcome{State: ci.AttemptFailed, ExitCode: 3},
		Report: &FileReport{Name: "complete", Data: []byte{0xff}},
	}
	if err := j.Put(&e); err != nil {
		t.Fatal(err)
	}
	if err := j.PutIndex(Index{Epoch: 2, Applied: 9}); err != nil {
		t.Fatal(err)
	}
	// A crash in the middle of a write, and a broken disk, leave such files.
	for name, text := range map[string]string{"x.json.new": "{", "broken.json": "{", "renamed.json": `{"Stage":"taken"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		got, err := j.Load()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]Entry{e}, got); diff != "" {
			t.Error(diff)
		}
	}
	if at, err := j.LoadIndex(); err != nil || at != (Index{Epoch: 2, Applied: 9}) {
		t.Errorf("%v, %v", at, err)
	}
	if err := errors.Join(j.Remove("01attempt"), j.Remove("01attempt")); err != nil {
		t.Error(err)
	}
	if got, err := j.Load(); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestReportDirTrustsNothing(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("SUCCESS"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newReportDir(filepath.Join(t.TempDir(), "report"))
	if err := d.make(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(d.path); err != nil || info.Mode().Perm() != 0o777 || info.Mode()&os.ModeSticky == 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := errors.Join(os.Symlink(secret, filepath.Join(d.path, "complete")), syscall.Mkfifo(filepath.Join(d.path, "outputs"), 0o600),
		os.WriteFile(filepath.Join(d.path, "report.json"), []byte(`{"state":"succ`), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := d.poll(); len(got) != 0 {
		t.Errorf("reports %+v", got)
	}
	if _, err := d.outputs(); err == nil {
		t.Error("a pipe is read")
	}
	if got := d.problems(); len(got) != 2 {
		t.Errorf("problems %v", got)
	}
	if err := os.WriteFile(filepath.Join(d.path, "report.json"), []byte(`{"state":"succeeded"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := d.poll(); len(got) != 1 || got[0].State != logpath.ReportSucceeded {
		t.Errorf("reports %+v", got)
	}
	if got := d.poll(); len(got) != 0 {
		t.Errorf("an old report comes again: %+v", got)
	}
	if err := os.WriteFile(filepath.Join(d.path, "report.json"), []byte(strings.Repeat(" ", logpath.MaxReport+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := d.poll(); len(got) != 0 {
		t.Errorf("a report of any size is read: %+v", got)
	}
}

// A set that is older than one seen stops nothing, in this life and the next.
func TestOldSetsAreIgnored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exits(0))
		w.index = 10
		w.set = []Assignment{assignment()}
		w.programs.Go("old", func(contextT) {
			time.Sleep(500 * time.Millisecond)
			w.mu.Lock()
			sup := w.sup
			w.mu.Unlock()
			if sup.Set(Index{Epoch: 1, Applied: 3}, true, nil, nil) || sup.Set(Index{Epoch: 0, Applied: 99}, true, nil, nil) {
				t.Error("an old set is taken")
			}
			if sup.Seen() != (Index{Epoch: 1, Applied: 11}) {
				t.Errorf("seen %v", sup.Seen())
			}
		})
		w.agent()
		w.clean()
		if r := w.final(PhaseFinal); r.Outcome != ci.AttemptSucceeded {
			t.Errorf("%+v", r)
		}
		sup, err := New(w.deps())
		if err != nil {
			t.Fatal(err)
		}
		if sup.Set(Index{Epoch: 1, Applied: 10}, true, []Assignment{assignment()}, nil) {
			t.Error("a later agent forgets the index")
		}
	})
}

// What is over stays over, also when a set that does not know yet names it.
func TestOverStaysOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exits(0))
		w.set = []Assignment{assignment()}
		w.agent()
		w.reports = nil // the coordinator has forgotten
		if w.agent() {
			t.Fatal("the agent died")
		}
		if w.rt.runs != 2 {
			t.Errorf("%d runs", w.rt.runs) // a new agent knows nothing: the accept decides there
		}
		sup, err := New(w.deps())
		if err != nil {
			t.Fatal(err)
		}
		sup.over.add("01attempt")
		sup.Set(Index{Epoch: 9}, true, []Assignment{assignment()}, nil)
		if len(sup.workers) != 0 {
			t.Error("it begins again")
		}
	})
}

func TestRefusedAttemptLeavesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exits(0))
		w.refuse = true
		w.set = []Assignment{assignment()}
		w.agent()
		w.clean()
		if len(w.reports) != 0 || w.rt.runs != 0 || len(w.bucket.Keys()) != 0 {
			t.Errorf("reports %v, %d runs, objects %v", w.reports, w.rt.runs, w.bucket.Keys())
		}
	})
}

func TestLeftoversAreSwept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, exits(0))
		if _, err := w.rt.Prepare(t.Context(), runtime.Spec{Attempt: "stranger"}); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(w.dir, "agent", "attempts", "stranger", "log"), 0o755); err != nil {
			t.Fatal(err)
		}
		w.set = []Assignment{assignment()}
		w.agent()
		w.clean()
	})
}

func TestCancelAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, obeys)
		w.set = []Assignment{assignment()}
		w.programs.Go("shutdown", func(contextT) {
			time.Sleep(time.Second)
			w.mu.Lock()
			sup := w.sup
			w.mu.Unlock()
			sup.CancelAll(ci.ReasonAgentShutdown)
		})
		w.agent()
		w.clean()
		if r := w.final(PhaseFinal); r.Outcome != ci.AttemptCanceled || r.Reason != ci.ReasonAgentShutdown {
			t.Errorf("%+v", r)
		}
	})
}
