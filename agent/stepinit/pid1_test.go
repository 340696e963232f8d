package stepinit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/shared/needs"
)

// ended is how a command below a pid 1 ended.
type ended struct {
	code     int
	out, err string
}

// underPid1 runs argv below the program as pid 1 of a namespace (or an ordinary
// process) and sends sig once the command has said that it is up.
func underPid1(t *testing.T, program string, alone bool, sig unix.Signal, argv ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{ExecVerb, "--"}, argv...)...)
	cmd.Dir = t.TempDir()
	if alone {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(out)
	if sig != 0 {
		if line, err := in.ReadString('\n'); line != "up\n" {
			t.Errorf("the command says %q, %v", line, err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Error(err)
		}
	}
	// To its end, which comes when nothing is left that holds it.
	rest, err := io.ReadAll(in)
	if err != nil {
		t.Error(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
	if ctx.Err() != nil {
		t.Errorf("it did not end")
	}
	return ended{cmd.ProcessState.ExitCode(), string(rest), said.String()}
}

func TestExec(t *testing.T) {
	t.Parallel()
	needs.Root(t)
	program := build(t)
	text := t.TempDir() + "/text"
	if err := os.WriteFile(text, []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
	const loop = "while :; do sleep 0.05; done"
	sh := func(script string) []string { return []string{"sh", "-ec", script} }
	for _, tt := range []struct {
		name string
		sig  unix.Signal
		argv []string
		want ended
	}{
		{"0", 0, sh("exit 0"), ended{}},
		{"3", 0, sh("echo out; echo err >&2; exit 3"), ended{3, "out\n", "err\n"}},
		{"no such program", 0, []string{"slipway-no-such"}, ended{code: 127, err: Unstarted}},
		{"no such path", 0, []string{"/no/such", "x"}, ended{code: 127, err: Unstarted + `"/no/such": `}},
		{"no program", 0, []string{text}, ended{code: 126, err: Unstarted}},
		{"its own SIGSEGV", 0, sh("kill -SEGV $$"), ended{code: 139}},
		{"its own SIGKILL", 0, sh("kill -KILL $$"), ended{code: 137}},
		{"leader of session and group", 0, sh("trap 'exit 4' USR1; kill -USR1 0; exit 5"), ended{code: 4}},
		{"a shell that waits", unix.SIGTERM, sh("echo up; sleep 300; echo no"), ended{code: 143}},
		{"interrupt", unix.SIGINT, sh("trap 'echo told; exit 6' INT; echo up; " + loop), ended{6, "told\n", ""}},
		{"another signal is the command's", unix.SIGUSR1, sh("trap 'echo told; exit 7' USR1; echo up; " + loop), ended{7, "told\n", ""}},
		{"deaf", unix.SIGTERM, sh("trap '' TERM; echo up; sleep 1; exit 8"), ended{code: 8}},
		{
			"grandchildren hear it", unix.SIGTERM,
			sh(`setsid sh -c "trap 'echo told; exit' TERM; echo up; ` + loop + `" & trap 'wait; exit 9' TERM; wait; exit 1`),
			ended{9, "told\n", ""},
		},
		{"orphans are reaped", 0, sh("p=$(sleep 0 >&2 & echo $!); while kill -0 $p; do sleep 0.01; done 2>/dev/null; exit 10"), ended{code: 10}},
	} {
		for _, alone := range []bool{true, false} {
			name := tt.name
			if !alone {
				name += ", not pid 1"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				got := underPid1(t, program, alone, tt.sig, tt.argv...)
				if tt.want.err != "" && strings.HasPrefix(got.err, tt.want.err) {
					got.err = tt.want.err
				}
				// Shells tell of what was killed below them.
				if tt.sig != 0 {
					got.err = ""
				}
				if got != tt.want {
					t.Errorf("ends with %+v, want %+v", got, tt.want)
				}
			})
		}
	}
	t.Run("nothing outlives it", func(t *testing.T) {
		t.Parallel()
		if got := underPid1(t, program, true, 0, sh("trap '' TERM HUP; setsid sleep 300 & exit 2")...); got.code != 2 {
			t.Errorf("ends with %+v, want 2", got)
		}
	})
	t.Run("its command line is not the command's", func(t *testing.T) {
		t.Parallel()
		got := underPid1(t, program, false, 0, sh("tr '\\0' ' ' < /proc/$PPID/cmdline; # a word")...)
		if !strings.HasPrefix(got.out, program+" held ") || strings.Contains(got.out, "word") {
			t.Errorf("the init is seen as %q", got.out)
		}
	})
	t.Run("no command", func(t *testing.T) {
		t.Parallel()
		if got := underPid1(t, program, false, 0); got.code != ExecUnusable {
			t.Errorf("ends with %+v, want %d", got, ExecUnusable)
		}
	})
}
