package consensus

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/pki"
)

const (
	childDir = "SLIPWAY_TEST_CONSENSUS_CHILD"
	childPKI = "SLIPWAY_TEST_CONSENSUS_PKI"
)

// child is a coordinator of one that proposes for ever and writes down each
// name once it is acknowledged. It never returns.
func child(dir string) {
	a, err := pki.OpenAuthority(os.Getenv(childPKI))
	if err != nil {
		panic(err)
	}
	m := &member{cfg: Config{Dir: dir, Log: slog.New(slog.DiscardHandler), Bootstrap: true}}
	if err := m.start(a); err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := m.node.WaitLeader(ctx); err != nil {
		panic(err)
	}
	proposers := lifecycle.NewTasks(ctx)
	for w := range 4 {
		proposers.Go("proposer", func(ctx context.Context) {
			for i := 0; ; i++ {
				name := fmt.Sprintf("t-%d-%d-%d", os.Getpid(), w, i)
				if _, err := m.node.Propose(ctx, tenant(name, 100)); err != nil {
					panic(err)
				}
				_, _ = os.Stdout.WriteString(name + "\n") // one write: whole lines only
			}
		})
	}
	panic(proposers.Run(ctx))
}

// TestKilledAtAnyMoment kills a real process with SIGKILL, several times over
// on the same folder, and finds everything it had acknowledged.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	dir, pkiDir := t.TempDir(), t.TempDir()
	var acked []string
	for _, after := range []int{1, 57, 200} {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), childDir+"="+dir, childPKI+"="+pkiDir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		n := 0
		for lines := bufio.NewScanner(out); lines.Scan(); n++ {
			acked = append(acked, strings.TrimSpace(lines.Text()))
			if n == after {
				_ = cmd.Process.Kill()
			}
		}
		if err := cmd.Wait(); err == nil || n < after {
			t.Fatalf("the child ended by itself after %d names: %v", n, err)
		}
	}
	a, err := pki.OpenAuthority(pkiDir)
	if err != nil {
		t.Fatal(err)
	}
	m := newMember(t)
	m.cfg.Dir = dir
	m.mustStart(t, a)
	m.mustLead(t)
	for _, name := range acked {
		if !m.has(name) {
			t.Fatalf("%s was acknowledged and is lost (of %d)", name, len(acked))
		}
	}
	m.propose(t, "life-goes-on")
}
