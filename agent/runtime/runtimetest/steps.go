package runtimetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
)

func testExitCodes(t *testing.T, b *bench) {
	for script, code := range map[string]int{
		"exit 0": 0, "exit 7": 7, "exit 255": 255, "false; echo not reached": 1,
		"sh -c 'kill -9 $$'": 137, "sh -c 'kill $$'": 143,
	} {
		e, _ := b.run(b.spec(script))
		if e.Code != code || e.Reason != "" || e.At.IsZero() {
			t.Errorf("%q ends with %+v, want code %d and no reason", script, e, code)
		}
	}
}

// What cannot be started is the step's own failure, as in a shell.
func testCannotStart(t *testing.T, b *bench) {
	for _, argv := range [][]string{{"slipway-no-such-program"}, {"/no/such/program", "x"}} {
		s := b.spec("")
		s.Command = argv
		e, _ := b.run(s)
		if e.Code != 127 || e.Message == "" {
			t.Errorf("%q ends with %+v, want code 127 and a message", argv, e)
		}
	}
	s := b.spec("echo never")
	s.Shell = []string{"/no/such/shell"}
	if e, _ := b.run(s); e.Code != 127 || !strings.Contains(e.Message, "/no/such/shell") {
		t.Errorf("a missing shell ends with %+v, want code 127 and a message with its name", e)
	}
}

func testEnvironment(t *testing.T, b *bench) {
	s := b.spec("")
	s.Command = []string{"env", "-0"}
	s.Env = []string{"A=1", "EMPTY=", "SPACES= a  b ", "LINES=x\ny\n", "QUOTES='\"$A`", "UTF=ä€😀", "EQ=a=b=c"}
	e, out := b.run(s)
	if e.Code != 0 {
		t.Fatalf("env ends with %+v: %s", e, out.err.String())
	}
	var got []string
	for _, kv := range strings.Split(out.out.String(), "\x00") {
		key, _, _ := strings.Cut(kv, "=")
		if kv != "" && !slices.Contains(b.ExtraEnv, key) {
			got = append(got, kv)
		}
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(s.Env))
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("environment (-want +got):\n%s", d)
	}
}

func testStdin(t *testing.T, b *bench) {
	e, out := b.run(b.spec("if read x; then exit 9; fi\necho at the end"))
	if e.Code != 0 || out.out.String() != "at the end\n" {
		t.Errorf("a step reads %q from its standard input and ends with %+v", out.out.String(), e)
	}
}

func testWorkDir(t *testing.T, b *bench) {
	s := b.spec("pwd; echo made > file; ls")
	e, out := b.run(s)
	if want := s.WorkDir + "\nfile\n"; e.Code != 0 || out.out.String() != want {
		t.Errorf("output %q, exit %+v, want %q", out.out.String(), e, want)
	}
	if lines(s.WorkDir+"/file") != 1 {
		t.Error("a file written in the working directory is not on the host")
	}
}

func testArgv(t *testing.T, b *bench) {
	s := b.spec("")
	s.Command = []string{"printf", "[%s]", "a b", "", "*", `c"d'e`, "$HOME", "-n", "x\ny"}
	_, out := b.run(s)
	if want := "[a b][][*][c\"d'e][$HOME][-n][x\ny]"; out.out.String() != want {
		t.Errorf("arguments arrive as %q, want %q", out.out.String(), want)
	}
}

func testShell(t *testing.T, b *bench) {
	s := b.spec("echo $#; echo $UNSET; echo not reached")
	s.Shell = []string{"/bin/sh", "-u"}
	if e, out := b.run(s); e.Code == 0 || out.out.String() != "0\n" {
		t.Errorf("sh -u: output %q, exit %+v", out.out.String(), e)
	}
	s = b.spec("false\necho \"it's\" '$0' && exit 3")
	s.Shell = []string{"/bin/sh"}
	if e, out := b.run(s); e.Code != 3 || out.out.String() != "it's $0\n" {
		t.Errorf("sh without -e: output %q, exit %+v", out.out.String(), e)
	}
}

func testMemory(t *testing.T, b *bench) {
	if !slices.Contains(b.Limits, "memory") {
		t.Skip("memory is not limited here")
	}
	s := b.spec("echo eating; tail /dev/zero; echo not reached")
	s.Resources = ci.Resources{Memory: 48 << 20}
	if e, _ := b.run(s); e.Code != 137 || e.Reason != ci.ReasonOOM {
		t.Errorf("a step over its memory ends with %+v, want code 137 and reason oom", e)
	}
}

func testPids(t *testing.T, b *bench) {
	if !slices.Contains(b.Limits, "pids") {
		t.Skip("the number of processes is not limited here")
	}
	s := b.spec("i=0; while [ $i -lt 60 ]; do sleep 60 & i=$((i+1)); done; exit 0")
	s.Resources = ci.Resources{Pids: 20, MilliCPU: 1500}
	if e, _ := b.run(s); e.Code == 0 {
		t.Error("60 processes under a limit of 20")
	}
}

func testWait(t *testing.T, b *bench) {
	s := b.spec("exit 4")
	h := b.start(s)
	for range 3 {
		if e := b.wait(h); e.Code != 4 {
			t.Errorf("Wait = %+v, want code 4", e)
		}
	}
	if out := b.logs(h, ""); len(out.records) != 0 {
		t.Errorf("log of a silent step: %+v", out.records)
	}
}

func testRepeated(t *testing.T, b *bench) {
	s := b.spec("echo once >> ran; exit 6")
	h := b.prepare(s)
	again, err := b.rt.Prepare(b.ctx(), s)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(h, again); d != "" {
		t.Errorf("a second Prepare gives another handle:\n%s", d)
	}
	for range 2 {
		if err := b.rt.Start(b.ctx(), h); err != nil {
			t.Fatal(err)
		}
	}
	b.wait(h)
	if err := b.rt.Start(b.ctx(), h); err != nil {
		t.Errorf("Start of what ended: %v", err)
	}
	if again, err := b.rt.Prepare(b.ctx(), s); err != nil || again.ID != h.ID {
		t.Errorf("Prepare of what ended: %+v, %v", again, err)
	}
	for range 2 {
		if err := b.rt.Stop(b.ctx(), h, "SIGTERM", 0); err != nil {
			t.Errorf("Stop of what ended: %v", err)
		}
	}
	if e := b.wait(h); e.Code != 6 {
		t.Errorf("Wait after all that = %+v, want code 6", e)
	}
	for range 3 {
		if err := b.rt.Remove(b.ctx(), h); err != nil {
			t.Errorf("Remove: %v", err)
		}
	}
	if err := b.rt.Stop(b.ctx(), h, "SIGTERM", 0); err != nil {
		t.Errorf("Stop of what is gone: %v", err)
	}
	if n := lines(s.WorkDir + "/ran"); n != 1 {
		t.Errorf("user code ran %d times", n)
	}
}

func testStartTwice(t *testing.T, b *bench) {
	s := b.spec("echo once >> ran")
	h := b.prepare(s)
	var waits []func() error
	for range 4 {
		waits = append(waits, b.aside(func() error { return b.rt.Start(b.ctx(), h) }))
	}
	for _, w := range waits {
		if err := w(); err != nil {
			t.Errorf("Start at the same time: %v", err)
		}
	}
	b.wait(h)
	if err := b.open().Start(b.ctx(), h); err != nil {
		t.Errorf("Start after a restart: %v", err)
	}
	if n := lines(s.WorkDir + "/ran"); n != 1 {
		t.Errorf("user code ran %d times", n)
	}
}

func testStartGate(t *testing.T, b *bench) {
	s := b.spec("echo ran >> ran")
	h := b.prepare(s)
	if _, err := b.rt.Wait(b.ctx(), h); ci.KindOf(err) != ci.Conflict {
		t.Errorf("Wait before Start: %v, want a conflict", err)
	}
	if lines(s.WorkDir+"/ran") != 0 {
		t.Error("user code ran before Start")
	}
	if err := b.rt.Remove(b.ctx(), h); err != nil {
		t.Fatal(err)
	}
	if err := b.rt.Start(b.ctx(), h); err == nil {
		t.Error("Start of what was removed succeeds")
	}
}

func testList(t *testing.T, b *bench) {
	prepared := b.prepare(b.spec("true"))
	running := b.start(b.spec("sleep 600"))
	ended := b.start(b.spec("true"))
	b.wait(ended)
	gone := b.start(b.spec("true"))
	if err := b.rt.Remove(b.ctx(), gone); err != nil {
		t.Fatal(err)
	}
	got, err := b.open().List(b.ctx())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []runtime.Handle{prepared, running, ended} {
		if d := cmp.Diff(h, got[h.Attempt]); d != "" {
			t.Errorf("List lacks a handle, or changes it (-want +got):\n%s", d)
		}
	}
	if _, ok := got[gone.Attempt]; ok {
		t.Error("List has what was removed")
	}
}

func testAdoption(t *testing.T, b *bench) {
	s := b.spec("echo before; while [ ! -e go ]; do sleep 0.05; done; echo after; exit 5")
	h := b.start(s)
	errSeen := errors.New("seen")
	seen := &output{on: func(runtime.Record) error { return errSeen }}
	if err := b.rt.Logs(b.ctx(), h, "", seen); !errors.Is(err, errSeen) {
		t.Fatalf("Logs: %v", err)
	}
	again := b.open()
	if err := again.Start(b.ctx(), h); err != nil {
		t.Errorf("Start after a restart: %v", err)
	}
	rest := b.aside(func() error {
		var out output
		err := again.Logs(b.ctx(), h, seen.records[0].Cursor, &out)
		if out.out.String() != "after\n" {
			t.Errorf("log behind the first line: %q", out.out.String())
		}
		return err
	})
	write(t, s.WorkDir+"/go", nil)
	if e, err := again.Wait(b.ctx(), h); err != nil || e.Code != 5 {
		t.Errorf("Wait after a restart = %+v, %v, want code 5", e, err)
	}
	if err := rest(); err != nil {
		t.Errorf("Logs after a restart: %v", err)
	}
}
