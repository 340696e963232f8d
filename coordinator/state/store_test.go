package state

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// bomb is an op that panics after it has written.
type bomb struct{}

func (bomb) Name() string { return "bomb" }

func (bomb) apply(x *tx) error {
	x.t.tenants.put("boom", &ci.Tenant{ID: "boom"})
	panic("boom")
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.s.View()
	watch := w.s.Watch()
	defer watch.Close()
	watch.Changed()
	<-watch.C()
	errs := w.s.applyEntry(100, Entry{Stamp: w.stamp(), Commands: []Command{
		{Op: &CreateTenant{Tenant: ci.Tenant{ID: "earlier"}}}, {Op: bomb{}}, {Op: &Tick{}},
	}})
	for _, err := range errs {
		if err == nil || ci.KindOf(err) != ci.Internal || !strings.Contains(err.Error(), "boom") {
			t.Errorf("error %v, want an internal one that says boom", err)
		}
	}
	v := w.s.View()
	if v.Tenant("earlier") != nil || v.Tenant("boom") != nil || len(v.Tenants()) != len(before.Tenants()) {
		t.Error("an entry that panicked left something behind")
	}
	if n, last := v.Quarantined(); n != 1 || len(last) != 1 || last[0] != 100 {
		t.Errorf("quarantined: %d, %v", n, last)
	}
	if v.Index() != 100 {
		t.Errorf("index %d, want 100", v.Index())
	}
	w.index = 100
	w.must(&CreateTenant{Tenant: ci.Tenant{ID: "later"}})
	if w.s.View().Tenant("later") == nil {
		t.Error("nothing applies any more")
	}
}

func TestUndecodablePanics(t *testing.T) {
	t.Parallel()
	good, err := EncodeEntry(Entry{Commands: []Command{{Op: &Tick{}}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty":      nil,
		"codec":      {2, 0xa0},
		"garbage":    {codecCBOR, 0xff, 0x00},
		"unknown op": bytes.ReplaceAll(good, []byte("tick"), []byte("tock")),
		"cut":        good[:len(good)-1],
		"field":      bytes.ReplaceAll(good, []byte("Stamp"), []byte("Stomp")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			New().ApplyEntry(1, data)
		})
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hash := w.put(def("s"))
	create := func(id ci.RunID, key string) error {
		return w.apply(Command{Key: key, Actor: user, Op: &CreateRun{Run: ci.Run{ID: id, Tenant: "default", WorkflowHash: hash}}})[0]
	}
	if err := create("r1", "k"); err != nil {
		t.Fatal(err)
	}
	if err := create("r2", "k"); err != nil {
		t.Fatal(err)
	}
	v := w.s.View()
	if got, ok := v.Key("default", "k"); !ok || got != "r1" || v.Run("r2") != nil {
		t.Fatalf("key names %q (%v), run r2 is %v", got, ok, v.Run("r2"))
	}
	if _, ok := v.Key("other", "k"); ok {
		t.Error("another tenant sees the key")
	}
	if err := w.apply(Command{Key: "k", Actor: user, Op: &CancelRun{Run: "r1"}})[0]; ci.KindOf(err) != ci.Conflict {
		t.Errorf("the same key for something else: %v", err)
	}
	if err := create("r3", strings.Repeat("k", maxKey+1)); ci.KindOf(err) != ci.Invalid {
		t.Errorf("an endless key: %v", err)
	}
	// A refused command does not use its key up.
	if err := w.apply(Command{Key: "k2", Actor: user, Op: &CreateRun{Run: ci.Run{ID: "r4", Tenant: "default", WorkflowHash: "x"}}})[0]; err == nil {
		t.Fatal("a run of an unknown workflow was taken")
	}
	if err := create("r4", "k2"); err != nil {
		t.Fatal(err)
	}
	w.now += keyLife
	w.must(&Tick{})
	if _, ok := w.s.View().Key("default", "k"); ok {
		t.Error("the key outlived its 24 h")
	}
	if err := create("r5", "k"); err != nil || w.s.View().Run("r5") == nil {
		t.Errorf("the key cannot be used again: %v", err)
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(&CreateTenant{Tenant: ci.Tenant{ID: "default", MaxQueued: 3}})
	w.create("r1", def("a"), def("b"))
	hash := w.put(def("a"), def("b"))
	over := &CreateRun{Run: ci.Run{ID: "r2", Tenant: "default", WorkflowHash: hash}}
	w.fails(over, ci.Exhausted)
	w.pass("r1", "a")
	w.must(over)
	if n := w.s.View().QueuedSteps("default"); n != 3 {
		t.Errorf("%d steps wait, want 3", n)
	}
}

func TestWorkflows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	steps := make([]ci.Step, 2000)
	for i := range steps {
		steps[i] = ci.Step{ID: fmt.Sprintf("s%d", i), Run: fmt.Sprintf("%x", uint64(i)*0x9e3779b97f4a7c15)}
		for n := range min(i, 20) {
			steps[i].Needs = append(steps[i].Needs, fmt.Sprintf("s%d", i-n-1))
		}
	}
	hash, parts, err := PackWorkflow(&ci.Workflow{Name: "big", Steps: steps})
	if err != nil {
		t.Fatal(err)
	}
	// Small parts in any order, one of them twice.
	var all []byte
	for _, p := range parts {
		all = append(all, p.Data...)
	}
	const n = 5
	for _, i := range []int{3, 0, 4, 4, 1, 2} {
		size := len(all)/n + 1
		w.must(&PutWorkflow{Hash: hash, Part: i, Parts: n, Data: all[i*size : min((i+1)*size, len(all))]})
		if got := w.s.View().Workflow(hash) != nil; got != (i == 2) {
			t.Fatalf("after part %d the workflow is there: %v", i, got)
		}
	}
	w.must(&CreateRun{Run: ci.Run{ID: "r1", Tenant: "default", WorkflowHash: hash}})
	other := w.put(def("s"))
	w.now += idleLife + time.Second
	w.must(&Tick{})
	if w.s.View().Workflow(hash) == nil || w.s.View().Workflow(other) != nil {
		t.Error("the wrong workflow was swept away")
	}
	w.fails(&CreateRun{Run: ci.Run{ID: "r2", Tenant: "default", WorkflowHash: other}}, ci.NotFound)
	w.fails(&PutWorkflow{Hash: "h", Part: 0, Parts: 1, Data: []byte("nonsense")}, ci.Invalid)
	w.fails(&PutWorkflow{Hash: "h", Part: 1, Parts: 1}, ci.Invalid)
	for name, bad := range map[string][]ci.Step{
		"none": nil, "twice": {def("a"), def("a")}, "needs nobody": {def("a", "b")},
		"cycle": {def("a", "b"), def("b", "a")}, "itself": {def("a", "a")}, "id": {def("a b")},
		"needs the end": {def("a", "f"), finally(def("f"))},
	} {
		hash, parts, err := PackWorkflow(&ci.Workflow{Steps: bad})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(name)
		w.fails(&parts[0], ci.Invalid)
		if w.s.View().Workflow(hash) != nil {
			t.Errorf("%s: stored all the same", name)
		}
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.create("r1", def("a"), def("b"))
	w.must(&SkipStep{Run: "r1", Step: "a", Note: "why"})
	w.apply(Command{Actor: user, Op: &CancelStep{Run: "r1", Step: "b"}}, Command{Actor: user, Op: &CancelRun{Run: "r1", Note: "stop"}})
	w.apply(Command{Actor: ci.System, Op: &CancelRun{Run: "r1", Hard: true}})
	var got []string
	page := func(before AuditKey, n int) (last AuditKey) {
		w.s.View().AuditDesc(before, func(k AuditKey, e *ci.AuditEntry) bool {
			got = append(got, fmt.Sprintf("%s %s %s %s %s>%s", e.Actor, e.Action, e.Step, e.Reason, e.Before, e.After))
			last, n = k, n-1
			return n > 0
		})
		return last
	}
	page(page(AuditKey{}, 2), 2)
	want := []string{
		"user:ann run.cancel  stop queued>canceling", "user:ann step.cancel b  pending>canceled",
		"user:ann step.skip a why pending>skipped", "user:ann run.create   >queued",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("audit:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	w := finishedDiamond(t)
	w.create("r2", def("s"))
	w.bring("r2", "s", ci.AttemptRunning)
	w.must(&CreateToken{Token: ci.Token{ID: "t1", Hash: "abc", User: "ann", Role: ci.RoleAdmin}})
	w.apply(Command{Key: "k", Actor: user, Op: &CancelRun{Run: "r2", Note: "stop"}})
	_, parts, err := PackWorkflow(&ci.Workflow{Name: "unfinished", Steps: []ci.Step{def("s")}})
	if err != nil {
		t.Fatal(err)
	}
	parts[0].Parts = 2
	w.must(&parts[0])
	var b bytes.Buffer
	if err := w.s.Snapshot().Persist(&b); err != nil {
		t.Fatal(err)
	}
	other := New()
	watch := other.Watch()
	defer watch.Close()
	watch.Changed()
	if err := other.Restore(&b); err != nil {
		t.Fatal(err)
	}
	if !watch.Changed().All {
		t.Error("a restore does not tell the watchers")
	}
	if other.Hash() != w.s.Hash() {
		t.Fatal("the restored state has another hash")
	}
	if err := checkDerived(other.View()); err != nil {
		t.Fatal(err)
	}
	v := other.View()
	if v.Run("r1").Workflow == nil || v.Run("r1").Workflow != v.Workflow(v.Run("r1").WorkflowHash) {
		t.Error("runs do not share the stored workflow")
	}
	if tok := v.TokenByHash("abc"); tok == nil || tok.ID != "t1" || v.TokenByHash("ab") != nil {
		t.Error("tokens are not found by their hash")
	}
	// Both go on alike.
	w.must(&RetryRun{Run: "r1", Mode: RetryFailed})
	data, err := EncodeEntry(Entry{Stamp: w.stamp(), Commands: []Command{{Actor: user, Op: &RetryRun{Run: "r1", Mode: RetryFailed}}}})
	if err != nil {
		t.Fatal(err)
	}
	if errs := other.ApplyEntry(w.index, data); errs[0] != nil {
		t.Fatal(errs[0])
	}
	if other.Hash() != w.s.Hash() {
		t.Error("the restored state goes another way")
	}
}

func TestRestoreRefusesGarbage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var b bytes.Buffer
	if err := w.s.Snapshot().Persist(&b); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	version := bytes.Clone(whole)
	version[len(snapshotMagic)]++
	for name, data := range map[string][]byte{
		"empty": nil, "short": []byte("slip"), "other": []byte("something else entirely"),
		"version": version, "cut": whole[:len(whole)-8],
	} {
		before := w.s.Hash()
		if err := w.s.Restore(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if w.s.Hash() != before {
			t.Errorf("%s: a failed restore changed the state", name)
		}
	}
	if err := w.s.Restore(&broken{}); !errors.Is(err, errBroken) {
		t.Errorf("a broken reader: %v", err)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (*broken) Read([]byte) (int, error) { return 0, errBroken }
