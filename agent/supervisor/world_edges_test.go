package supervisor

import (
	"context"
	"os"
	"path/filepath"
	"reflect"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

// worldSession is the coordinator: it commits, answers replays alike, and
// refuses what differs.
type worldSession world

func (s *worldSession) Accept(ctx context.Context, id ci.AttemptID, fence uint64) (bool, ci.Want, error) {
	w, run, want := (*world)(s), false, ci.WantRun
	err := w.call(ctx, "Accept", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case w.down:
			return ci.Errorf(ci.Unavailable, "no coordinator")
		case w.refuse:
			return nil
		case w.report(id, PhaseFinal) != nil || w.report(id, PhaseRejected) != nil:
			return ci.Errorf(ci.Conflict, "attempt %s is over", id)
		}
		for _, a := range w.set {
			if a.Attempt == id && a.Fence == fence {
				run, want = a.Want == ci.WantRun, a.Want
			}
		}
		w.accepted[id] = w.accepted[id] || run
		return nil
	})
	return run, want, err
}

func (s *worldSession) Report(ctx context.Context, r Report) (bool, error) {
	w, accepted := (*world)(s), false
	err := w.call(ctx, "Report "+r.Phase, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.down {
			return ci.Errorf(ci.Unavailable, "no coordinator")
		}
		if old := w.report(r.Attempt, r.Phase); old != nil {
			if !reflect.DeepEqual(*old, r) && !sameNews(*old, r) {
				w.t.Errorf("report %s is repeated differently:\n%+v\n%+v", r.Phase, *old, r)
			}
			accepted = true
			return nil
		}
		w.reports = append(w.reports, r)
		accepted = true
		return nil
	})
	return accepted, err
}

// sameNews compares what a coordinator would: a log grows chunk by chunk, and
// the times of what had to be decided once more differ.
func sameNews(a, b Report) bool {
	a.Log.Chunks, b.Log.Chunks = 0, 0
	if a.Phase == PhaseExited {
		a.Log, b.Log = ci.LogManifest{}, ci.LogManifest{}
	}
	a.StartedAt, a.FinishedAt = b.StartedAt, b.FinishedAt
	return reflect.DeepEqual(a, b)
}

type worldWork world

func (s *worldWork) Prepare(ctx context.Context, a *Assignment, tell func(string)) (Workspace, error) {
	w := (*world)(s)
	ws := Workspace{Dir: filepath.Join(w.dir, "work", string(a.Attempt)), Mirror: filepath.Join(w.dir, "mirror")}
	return ws, w.call(ctx, "Checkout", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if a.Source.Repo == "bad" {
			return ci.Errorf(ci.Invalid, "no such repository")
		}
		tell("checked out")
		w.held["workspace "+string(a.Attempt)] = true
		return os.MkdirAll(ws.Dir, 0o755)
	})
}

func (s *worldWork) Adopt(id ci.AttemptID, _ Workspace) {
	w := (*world)(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held["workspace "+string(id)] = true
}

func (s *worldWork) Release(id ci.AttemptID) error {
	w := (*world)(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held["workspace "+string(id)] = false
	return os.RemoveAll(filepath.Join(w.dir, "work", string(id)))
}

type worldCaches world

func (s *worldCaches) Acquire(ctx context.Context, a *Assignment, _ string, _ func(string)) ([]CacheLease, error) {
	w := (*world)(s)
	return []CacheLease{{Spec: a.Step.Caches[0], Source: "/host/cache", Target: "/c"}}, w.call(ctx, "Acquire", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.held["cache"] = true
		return nil
	})
}

func (s *worldCaches) Adopt(*Assignment, []CacheLease) {
	w := (*world)(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held["cache"] = true
}

func (s *worldCaches) Release(_ ci.AttemptID, passed bool) {
	w := (*world)(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held["cache"] = false
	w.passed = &passed
}

type worldDoors world

func (s *worldDoors) Add(_ ci.AttemptID, _ string, _ logpath.Path, g S3Grant) (S3Grant, error) {
	w := (*world)(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held["s3 "+g.AccessKey] = true
	w.held["s3"] = true
	g.Endpoint, g.Region = "http://127.0.0.1:9", "us-east-1"
	return g, nil
}

func (s *worldDoors) Remove(ci.AttemptID) {
	w := (*world)(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.held {
		if name == "s3" || len(name) > 3 && name[:3] == "s3 " {
			w.held[name] = false
		}
	}
}

type worldAPI world

func (s *worldAPI) Add(*Assignment, string, string) (string, error) {
	w := (*world)(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held["api"] = true
	return "/host/api", nil
}

func (s *worldAPI) Remove(ci.AttemptID) error {
	w := (*world)(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held["api"] = false
	return nil
}
