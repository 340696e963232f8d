package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/agent/logship"
	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/objectstore/objectstoretest"
)

func TestMain(m *testing.M) { needs.NoLeaks(m) }

var errKilled = errors.New("the agent is killed")

// world is everything around a supervisor, and outlives it: an engine, a
// coordinator, a bucket, a disk. Every call into it is a point at which the
// agent can be killed, before the call has its effect or after.
type world struct {
	t        *testing.T
	dir      string
	boot     string
	bucket   *objectstoretest.Fake
	rt       *fakeRuntime
	programs *lifecycle.Tasks
	began    time.Time

	mu       sync.Mutex
	set      []Assignment // what the coordinator has assigned
	index    uint64
	down     bool // the coordinator is away
	refuse   bool // it does not let this agent run anything
	accepted map[ci.AttemptID]bool
	reports  []Report
	held     map[string]bool // workspaces, caches, doors
	passed   *bool           // of the cache's release
	sup      *Supervisor
	kill     context.CancelFunc
	calls    []string
	killAt   int // the call at which the agent dies; -1 never
	after    bool
}

func newWorld(t *testing.T, program func(p *proc)) *world {
	t.Helper()
	w := &world{
		t: t, dir: t.TempDir(), boot: "boot-1", bucket: objectstoretest.Memory(), began: time.Now(),
		accepted: map[ci.AttemptID]bool{}, held: map[string]bool{}, killAt: -1,
		programs: lifecycle.NewTasks(t.Context()),
	}
	w.rt = &fakeRuntime{w: w, program: program, procs: map[ci.AttemptID]*proc{}}
	return w
}

// assignment is one of an ordinary step.
func assignment(change ...func(a *Assignment)) Assignment {
	a := Assignment{
		Attempt: "01attempt", Fence: 7, Number: 1, Generation: 1, Tenant: "pay", Run: "01run", Workflow: "build",
		LogPath: "s3://b/c/t/pay/r/01run/unit/1-7", CacheSeed: "seed",
		Step: ci.Step{ID: "unit", Executor: "fake", Run: "make", S3: true, Caches: []ci.CacheSpec{{Path: "/c", Key: "k"}}},
	}
	for _, f := range change {
		f(&a)
	}
	return a
}

// call is a point at which the agent can die.
func (w *world) call(ctx context.Context, name string, effect func() error) error {
	w.mu.Lock()
	n := len(w.calls)
	w.calls = append(w.calls, name)
	dies, after, kill := n == w.killAt, w.after, w.kill
	w.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if dies && !after {
		kill()
		return errKilled
	}
	err := effect()
	if dies && after {
		kill()
		return errKilled
	}
	return err
}

func (w *world) deps() Deps {
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ship := logship.New(logship.Config{Bucket: w.bucket, Log: log})
	return Deps{
		Dir: filepath.Join(w.dir, "agent"), BootID: w.boot, Runtimes: map[string]runtime.Runtime{"fake": w.rt},
		Session: (*worldSession)(w), Workspaces: (*worldWork)(w), Caches: (*worldCaches)(w),
		S3: (*worldDoors)(w), API: (*worldAPI)(w), Logs: worldLogs{ship}, Store: &worldStore{ship, w},
		Boottime: func() time.Duration { return time.Since(w.began) }, Log: log,
	}
}

type worldLogs struct{ s *logship.Shipper }

func (l worldLogs) Open(id ci.AttemptID, dir string, path logpath.Path) (Log, error) {
	return l.s.Open(id, dir, path)
}

// worldStore makes the last put a point of death too.
type worldStore struct {
	*logship.Shipper
	w *world
}

func (s *worldStore) PutStatus(ctx context.Context, at logpath.Path, st logpath.Status) error {
	return s.w.call(ctx, "PutStatus", func() error { return s.Shipper.PutStatus(ctx, at, st) })
}

// wish changes what the coordinator wants of all attempts.
func (w *world) wish(want ci.Want, why ci.Reason) {
	w.mu.Lock()
	for i := range w.set {
		w.set[i].Want, w.set[i].WantReason = want, why
	}
	w.mu.Unlock()
	w.send()
}

// send sends the full set, less what is over, to the agent that lives.
func (w *world) send() {
	w.mu.Lock()
	var live []Assignment
	for _, a := range w.set {
		if r := w.report(a.Attempt, PhaseFinal); r == nil && w.report(a.Attempt, PhaseRejected) == nil {
			live = append(live, a)
		}
	}
	w.index++
	sup, at := w.sup, Index{Epoch: 1, Applied: w.index}
	w.mu.Unlock()
	if sup != nil {
		sup.Set(at, true, live, nil)
	}
}

// report finds a report; the caller holds mu.
func (w *world) report(id ci.AttemptID, phase string) *Report {
	for i := range w.reports {
		if w.reports[i].Attempt == id && w.reports[i].Phase == phase {
			return &w.reports[i]
		}
	}
	return nil
}

// final returns the committed report of a phase.
func (w *world) final(phase string) Report {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.report("01attempt", phase)
	if r == nil {
		w.t.Fatalf("no %s report; there are %+v", phase, w.reports)
	}
	return *r
}

func (w *world) isAccepted(id ci.AttemptID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.accepted[id]
}

// agent starts an agent, and returns when it has died or has nothing to do.
func (w *world) agent() (died bool) {
	w.t.Helper()
	ctx, kill := context.WithCancel(w.t.Context())
	defer kill()
	w.mu.Lock()
	w.kill = kill
	w.mu.Unlock()
	sup, err := New(w.deps())
	if err != nil {
		w.t.Fatal(err)
	}
	tasks := lifecycle.NewTasks(ctx)
	tasks.Go("supervisor", func(ctx context.Context) {
		if err := sup.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	w.mu.Lock()
	w.sup = sup
	w.mu.Unlock()
	w.send()
	idle := sup.Idle(ctx)
	w.mu.Lock()
	w.sup = nil
	w.mu.Unlock()
	if err := tasks.Stop(); err != nil {
		w.t.Error(err)
	}
	return idle != nil
}

// clean checks that nothing of any attempt remains.
func (w *world) clean() {
	w.t.Helper()
	if err := w.programs.Wait(); err != nil {
		w.t.Error(err)
	}
	if len(w.rt.procs) > 0 {
		w.t.Errorf("containers remain: %v", w.rt.procs)
	}
	for name, held := range w.held {
		if held {
			w.t.Errorf("%s remains", name)
		}
	}
	for _, dir := range []string{"journal", "attempts"} {
		files, err := os.ReadDir(filepath.Join(w.dir, "agent", dir))
		if err != nil {
			w.t.Error(err)
		}
		for _, f := range files {
			if f.Name() != indexFile {
				w.t.Errorf("%s/%s remains", dir, f.Name())
			}
		}
	}
}
