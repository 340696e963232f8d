package api

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func TestFindRun(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	one, two := b.submit().GetId(), b.submit().GetId()
	for _, name := range []string{one, strings.ToUpper(one), one[len(one)-8:], " " + one} {
		if got := b.get(name).GetId(); got != one {
			t.Errorf("%q is %s", name, got)
		}
	}
	_, err := b.runs.GetRun(t.Context(), &pb.GetRunRequest{Run: one[:4]})
	wantErr(t, "prefix of two", err, ci.Invalid, two)
	_, err = b.runs.GetRun(t.Context(), &pb.GetRunRequest{Run: "zzzz"})
	wantErr(t, "unknown", err, ci.NotFound, "there is no run")
	_, err = b.runs.GetRun(t.Context(), &pb.GetRunRequest{})
	wantErr(t, "none", err, ci.Invalid, "names no run")
}

func TestTenantsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	mine := b.submit(func(r *pb.SubmitRunRequest) { r.Tenant = "shop" }).GetId()
	other := b.submit().GetId()
	runs, admin := b.as("sam", ci.RoleMember, "shop")
	if got, err := runs.GetRun(t.Context(), &pb.GetRunRequest{Run: mine}); err != nil || got.GetRun().GetTenant() != "shop" {
		t.Errorf("own run: %v", err)
	}
	_, unknown := runs.GetRun(t.Context(), &pb.GetRunRequest{Run: strings.Repeat("z", 26)})
	_, hidden := runs.GetRun(t.Context(), &pb.GetRunRequest{Run: other})
	if strings.ReplaceAll(hidden.Error(), other, strings.Repeat("z", 26)) != unknown.Error() || ci.KindOf(hidden) != ci.NotFound {
		t.Errorf("a hidden run: %v, an unknown one: %v", hidden, unknown)
	}
	for name, call := range map[string]func() error{
		"cancel": func() error {
			_, err := runs.CancelRun(t.Context(), &pb.CancelRunRequest{Run: other})
			return err
		},
		"log": func() error {
			_, err := runs.ReadLog(t.Context(), &pb.ReadLogRequest{Run: other, Step: "build"})
			return err
		},
		"audit": func() error { _, err := admin.ListAudit(t.Context(), &pb.ListAuditRequest{Run: other}); return err },
		"submit": func() error {
			_, err := runs.SubmitRun(t.Context(), &pb.SubmitRunRequest{WorkflowYaml: twoSteps, Tenant: "default"})
			return err
		},
	} {
		wantErr(t, name, call(), ci.NotFound, "")
	}
	if l, err := runs.ListRuns(t.Context(), &pb.ListRunsRequest{}); err != nil || len(l.GetRuns()) != 1 || l.GetRuns()[0].GetId() != mine {
		t.Errorf("list: %v, %v", l, err)
	}
	if l, err := admin.ListAudit(t.Context(), &pb.ListAuditRequest{}); err != nil || len(l.GetEntries()) != 1 {
		t.Errorf("audit: %v, %v", l, err)
	}
	if res, err := runs.SubmitRun(t.Context(), &pb.SubmitRunRequest{WorkflowYaml: "defaults: { executor: process, timeout: 1m }\nsteps: [{ id: a, run: x }]"}); err != nil || res.GetRun().GetTenant() != "shop" {
		t.Errorf("submit: %v, %v", res, err)
	}
}

func TestListRuns(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var ids []string
	for i := range 5 {
		ids = append(ids, b.submit(func(r *pb.SubmitRunRequest) {
			r.Repo, r.Sha, r.Branch = "/r", strings.Repeat(string(rune('a'+i)), 40), "main"
			if i == 2 {
				r.Branch = "topic"
			}
		}).GetId())
	}
	b.do(&state.CancelRun{Run: ci.RunID(ids[1])})
	list := func(req *pb.ListRunsRequest) (string, string) {
		t.Helper()
		res, err := b.runs.ListRuns(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range res.GetRuns() {
			for i, id := range ids {
				if id == r.GetId() {
					out = append(out, string(rune('0'+i)))
				}
			}
			if len(r.GetSteps()) != 0 {
				t.Error("a row has steps")
			}
		}
		return strings.Join(out, ""), res.GetNext()
	}
	for _, c := range []struct {
		req  *pb.ListRunsRequest
		want string
	}{
		{&pb.ListRunsRequest{}, "43210"},
		{&pb.ListRunsRequest{Limit: 5}, "43210"},
		{&pb.ListRunsRequest{State: "canceling"}, "1"},
		{&pb.ListRunsRequest{Branch: "topic"}, "2"},
		{&pb.ListRunsRequest{Sha: "DD"}, "3"},
		{&pb.ListRunsRequest{Workflow: "main", Before: ids[2]}, "10"},
		{&pb.ListRunsRequest{Workflow: "other"}, ""},
		{&pb.ListRunsRequest{Tenant: "shop"}, ""},
	} {
		if got, next := list(c.req); got != c.want || next != "" {
			t.Errorf("%v: got %q next %q, want %q", c.req, got, next, c.want)
		}
	}
	page, next := list(&pb.ListRunsRequest{Limit: 2})
	rest, end := list(&pb.ListRunsRequest{Limit: 3, Before: next})
	if page != "43" || rest != "210" || end != "" {
		t.Errorf("pages: %q %q %q", page, rest, end)
	}
	_, err := b.runs.ListRuns(t.Context(), &pb.ListRunsRequest{State: "done"})
	wantErr(t, "unknown state", err, ci.Invalid, "passed")
	_, err = b.runs.ListRuns(t.Context(), &pb.ListRunsRequest{Limit: 501})
	wantErr(t, "limit", err, ci.Invalid, "500")
}

func TestWatchRun(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	run := b.submit().GetId()
	got, err := b.runs.GetRun(t.Context(), &pb.GetRunRequest{Run: run})
	if err != nil {
		t.Fatal(err)
	}
	at := got.GetIndex()
	if w, err := b.runs.WatchRun(t.Context(), &pb.WatchRunRequest{Run: run}); err != nil || !w.GetChanged() || w.GetIndex() != at {
		t.Errorf("at once: %v, %v", w, err)
	}
	if w, err := b.runs.WatchRun(t.Context(), &pb.WatchRunRequest{Run: run, Index: at, WaitSeconds: 0.01}); err != nil || w.GetChanged() {
		t.Errorf("nothing new: %v, %v", w, err)
	}
	var g errgroup.Group
	for range 3 {
		g.Go(func() error {
			w, err := b.runs.WatchRun(t.Context(), &pb.WatchRunRequest{Run: run, Index: at, WaitSeconds: patience.Seconds()})
			if err == nil && (!w.GetChanged() || w.GetRun().GetState() != "canceling") {
				t.Errorf("woken with %v", w)
			}
			return err
		})
	}
	b.do(&state.CancelRun{Run: ci.RunID(run)})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	_, err = b.runs.WatchRun(t.Context(), &pb.WatchRunRequest{Run: run, Index: "x"})
	wantErr(t, "odd index", err, ci.Invalid, "index")
	// Polls end when the server stops, so that stopping takes no half minute.
	g.Go(func() error {
		_, err := b.runs.WatchRun(t.Context(), &pb.WatchRunRequest{Run: run, Index: "99999", WaitSeconds: 30})
		return err
	})
	deadline := time.Now().Add(patience)
	for waiting := 0; waiting == 0 && time.Now().Before(deadline); {
		b.api.changes.mu.Lock()
		waiting = len(b.api.changes.waiting)
		b.api.changes.mu.Unlock()
	}
	began := time.Now()
	b.stop()
	if err := g.Wait(); err != nil || time.Since(began) > 20*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	if len(b.api.changes.waiting) != 0 {
		t.Errorf("%d are still waited for", len(b.api.changes.waiting))
	}
}
