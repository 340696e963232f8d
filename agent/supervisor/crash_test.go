package supervisor

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

type contextT = context.Context

// The agent is killed at every single call it makes, before the call has its
// effect and after, and started again over the same disk. Whatever the path:
// user code runs once at most, the coordinator hears the same result, and
// nothing remains.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"passes", "fails", "reports success and hangs", "reports failure and hangs", "step timeout", "step timeout, deaf",
		"canceled", "canceled before it starts", "image missing", "bad repository", "report through S3",
	} {
		c := find(t, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := c.calls(t)
			if len(calls) < 4 {
				t.Fatalf("only %v", calls)
			}
			for n := range calls {
				for _, after := range []bool{false, true} {
					c.killed(t, n, after, calls[n])
				}
			}
		})
	}
}

func find(t *testing.T, name string) path {
	t.Helper()
	for _, c := range paths {
		if c.name == name {
			c.says = ""
			return c
		}
	}
	t.Fatalf("no path %s", name)
	return path{}
}

// calls lists the calls of a life without a kill.
func (c path) calls(t *testing.T) (calls []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := c.start(t)
		w.agent()
		w.clean()
		calls = w.calls
	})
	return calls
}

func (c path) killed(t *testing.T, n int, after bool, name string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := c.start(t)
		w.killAt, w.after = n, after
		lives := 1
		for w.agent() {
			if lives++; lives > 3 {
				t.Fatal("the agent dies again and again")
			}
		}
		c.check(t, w)
		if w.rt.runs > 1 {
			t.Errorf("user code ran %d times", w.rt.runs)
		}
		if t.Failed() {
			t.Fatalf("killed at call %d, %s, after=%v; calls %v", n, name, after, w.calls)
		}
	})
}

// An agent that is away for a while finds the exit, the whole log and the time
// that has passed.
func TestAwayWhileTheStepEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		away time.Duration
		stop time.Duration
		want ci.AttemptState
	}{
		{"it ended meanwhile", time.Hour, 0, ci.AttemptSucceeded},
		{"its time ran out meanwhile", time.Second, time.Second / 2, ci.AttemptTimedOut},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(p *proc) {
					for i := range 100 {
						p.print("line %d", i)
						if !p.sleep(100 * time.Millisecond) {
							return
						}
					}
					exits(0)(p)
				})
				w.set = []Assignment{assignment(func(a *Assignment) { a.Step.Timeout = c.stop })}
				w.programs.Go("kill", func(contextT) {
					time.Sleep(300 * time.Millisecond)
					w.mu.Lock()
					defer w.mu.Unlock()
					w.kill()
				})
				if !w.agent() {
					t.Fatal("the agent was not killed")
				}
				time.Sleep(c.away)
				if w.agent() {
					t.Fatal("the agent died")
				}
				w.clean()
				if r := w.final(PhaseFinal); r.Outcome != c.want || w.rt.runs != 1 {
					t.Errorf("%v after %d starts", r.Outcome, w.rt.runs)
				}
				if log := w.log(t); c.stop == 0 && strings.Count(log, "line ") != 100 {
					t.Errorf("log:\n%s", log)
				}
			})
		})
	}
}

// After a restart of the host nothing runs any more, and the agent says so.
func TestHostRestarted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, obeys)
		w.set = []Assignment{assignment()}
		w.programs.Go("power", func(contextT) {
			time.Sleep(3 * time.Second)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.kill()
			w.boot = "boot-2"
		})
		w.agent()
		w.agent()
		w.clean()
		if r := w.final(PhaseExited); r.Outcome != ci.AttemptLost || r.Reason != ci.ReasonAgentLost {
			t.Errorf("%+v", r)
		}
	})
}

// log returns the text of the log as the bucket has it.
func (w *world) log(t *testing.T) string {
	t.Helper()
	p, err := logpath.Parse(assignment().LogPath)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var text strings.Builder
	for n := range w.status(t).Log.Chunks {
		lines, err := z.DecodeAll(w.object(t, p.Chunk(n+1)), nil)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(lines) {
			r, err := logpath.ParseRecord(line)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&text, "%s\n", r.Data)
		}
	}
	return text.String()
}
