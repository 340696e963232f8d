package runtimetest

import (
	"context"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
)

func testStop(t *testing.T, b *bench) {
	s := b.spec("trap 'echo told; exit 33' TERM; echo ready > ready; while :; do sleep 0.1; done")
	h := b.start(s)
	until(t, "the step is ready", func() bool { return lines(s.WorkDir+"/ready") == 1 })
	if err := b.rt.Stop(b.ctx(), h, "SIGTERM", patience); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if e := b.wait(h); e.Code != 33 {
		t.Errorf("a step that minds SIGTERM ends with %+v, want its own code 33", e)
	}
	if out := b.logs(h, ""); out.out.String() != "told\n" {
		t.Errorf("stdout %q", out.out.String())
	}
	if err := b.rt.Stop(b.ctx(), h, "SIGNOTHING", 0); err == nil {
		t.Error("Stop takes a signal that there is not")
	}
}

// deaf is a script of processes that do not mind SIGTERM; some left the session
// and their parents. Each has the attempt in its command line.
func deaf(s runtime.Spec) string {
	loop := `'trap "" TERM HUP; echo x >> up; while :; do sleep 1; done' ` + string(s.Attempt)
	return "trap '' TERM\n" +
		"sh -c " + loop + " &\n" +
		"setsid sh -c " + loop + " &\n" +
		"(setsid sh -c \"setsid sh -c 'trap \\\"\\\" TERM; echo x >> up; while :; do sleep 1; done' " + string(s.Attempt) + " & exit\" &)\n" +
		"sh -c " + loop + "\n"
}

func testStopDeaf(t *testing.T, b *bench) {
	s := b.spec("")
	s.Script = deaf(s)
	h := b.start(s)
	until(t, "four processes are up", func() bool { return lines(s.WorkDir+"/up") == 4 })
	begin := time.Now()
	if err := b.rt.Stop(b.ctx(), h, "SIGTERM", 300*time.Millisecond); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if n := mentions(t, string(s.Attempt)); n != 0 {
		t.Errorf("%d processes run on after Stop", n)
	}
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("the grace was cut to %s", took)
	}
	if e := b.wait(h); e.Code != 137 {
		t.Errorf("a deaf step ends with %+v, want code 137", e)
	}
}

func testStopUnstarted(t *testing.T, b *bench) {
	s := b.spec("echo ran >> ran")
	h := b.prepare(s)
	if err := b.rt.Stop(b.ctx(), h, "SIGTERM", patience); err != nil {
		t.Fatalf("Stop before Start: %v", err)
	}
	// Whether a Start that comes too late is an error is the runtime's choice.
	if err := b.rt.Start(b.ctx(), h); err == nil {
		b.wait(h)
	}
	if lines(s.WorkDir+"/ran") != 0 {
		t.Error("user code ran after Stop")
	}
}

// testLeftovers sees that nothing outlives the step's main process.
func testLeftovers(t *testing.T, b *bench) {
	s := b.spec("")
	loop := `'trap "" TERM HUP; echo x >> up; while :; do sleep 1; done' ` + string(s.Attempt)
	s.Script = "setsid sh -c " + loop + " &\nsh -c " + loop + " &\n" +
		"while [ $(wc -l < up) -lt 2 ]; do sleep 0.05; done; exit 8"
	write(t, s.WorkDir+"/up", nil)
	h := b.start(s)
	out := b.logs(h, "")
	if e := b.wait(h); e.Code != 8 {
		t.Errorf("exit %+v, want code 8; stderr %s", e, out.err.String())
	}
	if n := mentions(t, string(s.Attempt)); n != 0 {
		t.Errorf("%d processes outlive the step", n)
	}
}

func testRemoveRunning(t *testing.T, b *bench) {
	s := b.spec("")
	s.Script = deaf(s)
	h := b.start(s)
	waited := b.aside(func() error { _, err := b.rt.Wait(b.ctx(), h); return err })
	read := b.aside(func() error { return b.rt.Logs(b.ctx(), h, "", &output{}) })
	until(t, "four processes are up", func() bool { return lines(s.WorkDir+"/up") == 4 })
	if err := b.rt.Remove(b.ctx(), h); err != nil {
		t.Fatalf("Remove: %v", err)
	}
	if n := mentions(t, string(s.Attempt)); n != 0 {
		t.Errorf("%d processes run on after Remove", n)
	}
	if err := waited(); err != nil {
		t.Errorf("Wait during Remove: %v", err)
	}
	if err := read(); err != nil {
		t.Errorf("Logs during Remove: %v", err)
	}
	got, err := b.rt.List(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := got[s.Attempt]; ok {
		t.Error("List has what was removed")
	}
}

// A Prepare that is given up, whenever that is, leaves nothing that a Remove by
// the attempt alone does not find: also what is made only afterwards.
func testRemoveGivenUp(t *testing.T, b *bench) {
	tries := map[ci.AttemptID]error{}
	for i := range 12 {
		s := b.spec("sleep 1000")
		ctx, cancel := context.WithTimeout(b.ctx(), time.Duration(i*i)*2*time.Millisecond)
		_, tries[s.Attempt] = b.rt.Prepare(ctx, s)
		cancel()
		if err := b.rt.Remove(b.ctx(), runtime.Handle{Attempt: s.Attempt}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := b.rt.List(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	for attempt, err := range tries {
		if h, there := all[attempt]; there {
			t.Errorf("%+v is there again; its Prepare said %v", h, err)
		}
	}
}
