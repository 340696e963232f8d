package supervisor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore"
)

// exits is a program that prints, works for a second and exits.
func exits(code int) func(p *proc) {
	return func(p *proc) {
		p.print("hello")
		if p.sleep(time.Second) {
			p.print("bye")
			p.end(runtime.Exit{Code: code})
		}
	}
}

// hangs is a program that reports and then ignores every signal.
func hangs(name, text string) func(p *proc) {
	return func(p *proc) {
		p.sleep(time.Second)
		p.report(name, text)
		p.sleep(1000 * time.Hour)
	}
}

// obeys is a program that runs until it is told to end.
func obeys(p *proc) {
	select {
	case s := <-p.term:
		p.print("told %s", s)
		p.end(runtime.Exit{Code: 143})
	case <-p.over:
	}
}

type path struct {
	name    string
	program func(p *proc)
	step    func(a *Assignment)
	world   func(w *world)
	during  func(w *world) // runs beside the agent
	want    Outcome        // Outputs, FinishedAt and Message left out
	within  time.Duration  // of virtual time
	says    string         // in the log
}

var paths = []path{
	{name: "passes", program: exits(0), want: Outcome{State: ci.AttemptSucceeded, Exited: true}, within: 2 * time.Second},
	{name: "fails", program: exits(3), want: Outcome{State: ci.AttemptFailed, Reason: ci.ReasonExitCode, Exited: true, ExitCode: 3}, within: 2 * time.Second, says: "exit code 3"},
	{
		name: "cannot start its command", program: func(p *proc) { p.end(runtime.Exit{Code: 127, Message: "cannot start it"}) },
		want: Outcome{State: ci.AttemptFailed, Reason: ci.ReasonExitCode, Exited: true, ExitCode: 127}, within: 2 * time.Second, says: "exit code 127: cannot start it",
	},
	{
		name: "out of memory", program: func(p *proc) { p.end(runtime.Exit{Code: 137, Reason: ci.ReasonOOM, Message: "out of memory"}) },
		want: Outcome{State: ci.AttemptFailed, Reason: ci.ReasonOOM, Exited: true, ExitCode: 137}, within: time.Second,
	},
	{
		name: "engine restarted", program: func(p *proc) { p.end(runtime.Exit{Code: 137, Reason: ci.ReasonDockerRestarted}) },
		want: Outcome{State: ci.AttemptLost, Reason: ci.ReasonDockerRestarted}, within: time.Second,
	},
	{
		name: "reports success and hangs", program: hangs("complete", "SUCCESS\n"),
		want: Outcome{State: ci.AttemptSucceeded, Exited: true, ExitCode: 137}, within: 3 * time.Second,
	},
	{
		name: "reports failure and hangs", program: hangs("report.json", `{"state":"failed","message":"broken"}`),
		want: Outcome{State: ci.AttemptFailed, Reason: ci.ReasonReportedFailure, Exited: true, ExitCode: 137}, within: 3 * time.Second,
	},
	{
		name: "failure beats exit 0", program: func(p *proc) { p.report("complete", "FAILURE"); p.end(runtime.Exit{}) },
		want: Outcome{State: ci.AttemptFailed, Reason: ci.ReasonReportedFailure, Exited: true}, within: time.Second,
	},
	{
		name: "reports ignored", program: func(p *proc) { p.report("complete", "FAILURE"); p.sleep(time.Minute); p.end(runtime.Exit{}) },
		step: func(a *Assignment) { a.Step.Completion = ci.CompletionExit }, want: Outcome{State: ci.AttemptSucceeded, Exited: true}, within: 61 * time.Second,
	},
	{
		name: "no report", program: exits(0), step: func(a *Assignment) { a.Step.Completion = ci.CompletionReport },
		want: Outcome{State: ci.AttemptFailed, Reason: ci.ReasonNoReport, Exited: true}, within: 2 * time.Second,
	},
	{
		name: "report awaited", program: hangs("complete", "SUCCESS"), step: func(a *Assignment) { a.Step.Completion = ci.CompletionReport },
		want: Outcome{State: ci.AttemptSucceeded, Exited: true, ExitCode: 137}, within: 3 * time.Second,
	},
	{
		name: "step timeout", program: obeys, step: func(a *Assignment) { a.Step.Timeout = 5 * time.Second; a.Step.CancelSignal = "SIGINT" },
		want: Outcome{State: ci.AttemptTimedOut, Reason: ci.ReasonTimeout, Exited: true, ExitCode: 143}, within: 6 * time.Second, says: "timeout of 5s is over",
	},
	{
		name: "step timeout, deaf", program: hangs("x", ""), step: func(a *Assignment) { a.Step.Timeout = 5 * time.Second; a.Step.CancelGrace = 3 * time.Second },
		want: Outcome{State: ci.AttemptTimedOut, Reason: ci.ReasonTimeout, Exited: true, ExitCode: 137}, within: 9 * time.Second,
	},
	{
		name: "canceled", program: obeys, during: func(w *world) { time.Sleep(3 * time.Second); w.wish(ci.WantCancel, ci.ReasonCanceledUser) },
		want: Outcome{State: ci.AttemptCanceled, Reason: ci.ReasonCanceledUser, Exited: true, ExitCode: 143}, within: 4 * time.Second,
	},
	{
		name: "run timeout", program: obeys, during: func(w *world) { time.Sleep(3 * time.Second); w.wish(ci.WantTimeout, ci.ReasonTimeout) },
		want: Outcome{State: ci.AttemptTimedOut, Reason: ci.ReasonTimeout, Exited: true, ExitCode: 143}, within: 4 * time.Second,
	},
	{
		name: "canceled before it starts", program: exits(0), world: func(w *world) { w.rt.slow = time.Hour },
		during: func(w *world) { time.Sleep(3 * time.Second); w.wish(ci.WantCancel, ci.ReasonCanceledUser) },
		want:   Outcome{State: ci.AttemptCanceled, Reason: ci.ReasonCanceledUser}, within: 4 * time.Second,
	},
	{
		name: "canceled when it comes", program: exits(0), step: func(a *Assignment) { a.Want = ci.WantCancel; a.WantReason = ci.ReasonFailFast },
		want: Outcome{State: ci.AttemptCanceled, Reason: ci.ReasonFailFast}, within: time.Second,
	},
	{name: "taken back", program: obeys, during: func(w *world) {
		time.Sleep(3 * time.Second)
		w.mu.Lock()
		w.set = nil
		w.mu.Unlock()
		w.send()
	}, want: Outcome{State: ci.AttemptCanceled, Reason: ci.ReasonSuperseded, Exited: true, ExitCode: 143}, within: 4 * time.Second},
	{name: "image missing", program: exits(0), world: func(w *world) {
		w.rt.prepareErr = &runtime.Problem{Reason: ci.ReasonImagePull, Err: fmt.Errorf("no such image")}
	}, want: Outcome{State: ci.AttemptRejected, Reason: ci.ReasonImagePull}, within: time.Second, says: "no such image"},
	{
		name: "bad repository", program: exits(0), step: func(a *Assignment) { a.Source.Repo = "bad" },
		want: Outcome{State: ci.AttemptRejected, Reason: ci.ReasonCheckout}, within: time.Second, says: "no such repository",
	},
	{
		name: "cannot start", program: exits(0), world: func(w *world) { w.rt.startErr = fmt.Errorf("no such file") },
		want: Outcome{State: ci.AttemptRejected, Reason: ci.ReasonInfra}, within: time.Second, says: "no such file",
	},
	{
		name: "no executor", program: exits(0), step: func(a *Assignment) { a.Step.Executor = "vm" },
		want: Outcome{State: ci.AttemptRejected, Reason: ci.ReasonInfra}, within: time.Second, says: `no executor "vm"`,
	},
	{name: "coordinator away in the middle", program: exits(0), during: func(w *world) {
		time.Sleep(500 * time.Millisecond)
		w.setDown(true)
		time.Sleep(10 * time.Minute)
		w.setDown(false)
	}, want: Outcome{State: ci.AttemptSucceeded, Exited: true}, within: 11 * time.Minute},
	{name: "store away", program: exits(0), world: func(w *world) { w.bucket.Down(true) }, during: func(w *world) {
		time.Sleep(10 * time.Minute)
		w.bucket.Down(false)
	}, want: Outcome{State: ci.AttemptSucceeded, Exited: true}, within: 11 * time.Minute},
	{name: "report through S3", program: func(p *proc) {
		p.sleep(time.Second)
		p.rt.w.put("complete", "SUCCESS")
		p.sleep(1000 * time.Hour)
	}, want: Outcome{State: ci.AttemptSucceeded, Exited: true, ExitCode: 137}, within: 3 * time.Second},
	{name: "failure through S3, exit 0", program: func(p *proc) {
		p.rt.w.put("report.json", `{"state":"failed"}`)
		p.end(runtime.Exit{})
	}, want: Outcome{State: ci.AttemptFailed, Reason: ci.ReasonReportedFailure, Exited: true}, within: time.Second},
	{
		name: "bad outputs", program: func(p *proc) { p.report("outputs", "nonsense"); p.end(runtime.Exit{}) },
		want: Outcome{State: ci.AttemptFailed, Reason: ci.ReasonReportedFailure, Exited: true}, within: time.Second, says: "nonsense",
	},
}

func (w *world) setDown(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
}

// put is the step's own put through the S3 endpoint.
func (w *world) put(name, text string) {
	p, err := logpath.Parse(assignment().LogPath)
	if err == nil {
		_, err = w.bucket.Put(w.t.Context(), p.Key(name), strings.NewReader(text), -1, objectstore.PutOptions{})
	}
	if err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	sup := w.sup
	w.mu.Unlock()
	if sup != nil {
		sup.Hint("01attempt", name)
	}
}

func (c path) start(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, c.program)
	a := assignment()
	if c.step != nil {
		c.step(&a)
	}
	if c.world != nil {
		c.world(w)
	}
	w.set = []Assignment{a}
	if c.during != nil {
		w.programs.Go("during", func(contextT) { c.during(w) })
	}
	return w
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, c := range paths {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := c.start(t)
				if w.agent() {
					t.Fatal("the agent died")
				}
				if took := time.Since(w.began); took > c.within {
					t.Errorf("took %s of %s", took, c.within)
				}
				c.check(t, w)
			})
		})
	}
}

// check compares what the coordinator and the bucket know with the path.
func (c path) check(t *testing.T, w *world) {
	t.Helper()
	w.clean()
	phase := PhaseFinal
	if c.want.State == ci.AttemptRejected {
		phase = PhaseRejected
	}
	r := w.final(phase)
	want := c.want
	if phase == PhaseRejected {
		want.State = 0
	}
	got := Outcome{State: r.Outcome, Reason: r.Reason, Exited: r.Exited, ExitCode: r.ExitCode}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (message %q)", diff, r.Message)
	}
	status := w.status(t)
	if status.State != c.want.State.String() || status.Reason != c.want.Reason || status.Attempt != r.Attempt || status.Fence != r.Fence {
		t.Errorf("status.json %+v", status)
	}
	if phase == PhaseFinal {
		early := w.final(PhaseExited)
		if early.Outcome != r.Outcome {
			t.Errorf("exited says %v, final %v", early.Outcome, r.Outcome)
		}
		if status.Log.Manifest() != r.Log {
			t.Errorf("log of status.json %+v, of the report %+v", status.Log, r.Log)
		}
	}
	if log := w.log(t); !strings.Contains(log, c.says) {
		t.Errorf("the log does not say %q:\n%s", c.says, log)
	}
	if w.passed != nil && *w.passed != (c.want.State == ci.AttemptSucceeded) {
		t.Errorf("caches are told passed=%v", *w.passed)
	}
}

func (w *world) object(t *testing.T, key string) []byte {
	t.Helper()
	r, err := w.bucket.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func (w *world) status(t *testing.T) logpath.Status {
	t.Helper()
	p, err := logpath.Parse(assignment().LogPath)
	if err != nil {
		t.Fatal(err)
	}
	var s logpath.Status
	if err := json.Unmarshal(w.object(t, p.Status()), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEverythingTravels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(p *proc) {
			if got := p.spec.WorkDir; got != p.env("SLIPWAY_WORKSPACE") {
				p.print("work dir %s", got)
			}
			if err := os.WriteFile(filepath.Join(p.spec.WorkDir, "out.txt"), []byte("made"), 0o600); err != nil {
				p.print("%v", err)
			}
			p.report("report.json", `{"state":"running","progress":0.5,"message":"half","outputs":{"digest":"x"}}`)
			p.sleep(5 * time.Second)
			p.report("outputs", "digest=old\nsize=3\n")
			p.end(runtime.Exit{})
		})
		a := assignment()
		a.Step.Artifacts = []ci.ArtifactSpec{{Paths: []string{"out.txt"}}, {When: "failed", Paths: []string{"gone"}}}
		w.set = []Assignment{a}
		w.programs.Go("watch", func(contextT) {
			time.Sleep(3 * time.Second)
			w.mu.Lock()
			sup := w.sup
			w.mu.Unlock()
			want := []Progress{{Attempt: "01attempt", Fence: 7, State: ci.AttemptRunning, StartedAt: w.began, Progress: 0.5, Note: "half", ImageDigest: "img@sha256:1"}}
			if diff := cmp.Diff(want, sup.Progress()); diff != "" {
				t.Error(diff)
			}
			var s logpath.State
			if err := json.Unmarshal(w.object(t, "c/t/pay/r/01run/unit/1-7/state.json"), &s); err != nil || s.Progress != 0.5 || s.State != "running" {
				t.Errorf("live state %+v, %v", s, err)
			}
		})
		w.agent()
		w.clean()
		r := w.final(PhaseFinal)
		if diff := cmp.Diff(map[string]string{"digest": "x", "size": "3"}, r.Outputs); diff != "" {
			t.Error(diff)
		}
		if len(r.Artifacts) != 1 || r.Artifacts[0].Path != "out.txt" || len(w.status(t).Artifacts) != 1 {
			t.Errorf("artifacts %+v", r.Artifacts)
		}
		if string(w.object(t, "c/t/pay/r/01run/unit/1-7/artifacts/out.txt")) != "made" {
			t.Error("the artifact is another")
		}
		if len(w.final(PhaseExited).Artifacts) != 0 {
			t.Error("the exit waited for artifacts")
		}
	})
}
