//go:build e2e

package e2e

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-ci/slipway/coordinator/consensus"
	"github.com/slipway-ci/slipway/coordinator/state"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/id"
	"github.com/slipway-ci/slipway/shared/pki"
	"github.com/slipway-ci/slipway/shared/spec"
)

// historyRuns is how many finished runs a fleet has in TestE2EHistory.
const historyRuns = 50_000

// TestE2EHistory kills an idle fleet that remembers many runs: it is ready again
// within seconds, and remembers them all.
func TestE2EHistory(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	first := f.run(head + "steps: [{ id: a, run: echo first }]\n")
	f.terminate()
	begin := time.Now()
	last := f.remember(historyRuns)
	t.Logf("%d runs put into the log in %s", historyRuns, time.Since(begin).Round(time.Millisecond))
	for range 3 {
		ready := f.readyIn()
		t.Logf("ready after %s; RSS %s", ready, f.rss())
		if ready > 10*time.Second {
			t.Errorf("ready after %s, the promise is 10 s", ready)
		}
		f.kill()
	}
	f.restart()
	if r := f.show(last); r.State != "passed" || !r.Final {
		t.Errorf("the last run is %s", r.State)
	}
	if got := f.rawLog(first.ID + "/a"); got != "first\n" {
		t.Errorf("the first run's log is %q", got)
	}
	again := f.run(head + "steps: [{ id: a, run: exit 0 }]\n")
	if ids := strings.Fields(f.must("runs", "ls", "--limit", "2", "-o", "name").stdout); again.State != "passed" || len(ids) != 2 || ids[0] != again.ID || ids[1] != last {
		t.Errorf("a run on top is %s; the newest are %v", again.State, ids)
	}
}

// remember writes finished runs into the log of a fleet that is down, as its
// coordinator would, and returns the last one.
func (f *fleet) remember(runs int) string {
	f.t.Helper()
	store := state.New()
	node := f.openLog(store)
	defer func() {
		if err := node.Close(); err != nil {
			f.t.Error(err)
		}
	}()
	ctx := f.t.Context()
	if err := node.WaitLeader(ctx); err != nil {
		f.t.Fatal(err)
	}
	propose := func(op state.Op) error {
		_, err := node.Propose(ctx, state.Command{Actor: ci.Actor{Kind: ci.ActorToken, Name: "admin"}, Op: op})
		return err
	}
	w, problems := spec.Parse([]byte(head+"steps:\n"+strings.Repeat("- { skip: history, run: exit 0 }\n", 5)), spec.Options{File: "history.yaml"})
	if err := problems.Err(); err != nil {
		f.t.Fatal(err)
	}
	hash, parts, err := state.PackWorkflow(w)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := propose(&parts[0]); err != nil {
		f.t.Fatal(err)
	}
	var all errgroup.Group
	all.SetLimit(512)
	last := ""
	for range runs {
		last = id.New()
		run := ci.Run{ID: ci.RunID(last), Tenant: ci.DefaultTenant, WorkflowHash: hash, Source: ci.Source{SHA: strings.Repeat("ab", 20), Branch: "main"}}
		all.Go(func() error {
			if err := propose(&state.CreateRun{Run: run}); err != nil {
				return err
			}
			return propose(&state.SetRun{Run: run.ID, State: ci.RunPassed})
		})
	}
	if err := all.Wait(); err != nil {
		f.t.Fatal(err)
	}
	return last
}

// openLog opens the coordinator's log of a fleet that is down.
func (f *fleet) openLog(store *state.Store) *consensus.Node {
	f.t.Helper()
	dir := filepath.Join(f.DataDir, "coordinator", "raft")
	authority, err := pki.OpenAuthority(filepath.Join(f.DataDir, "ca"))
	if err != nil {
		f.t.Fatal(err)
	}
	self, err := consensus.NodeID(dir)
	if err != nil {
		f.t.Fatal(err)
	}
	bundle, err := authority.Issue(pki.RoleCoordinator, self, nil, time.Hour)
	if err != nil {
		f.t.Fatal(err)
	}
	identity, err := pki.NewSource(bundle)
	if err != nil {
		f.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") // nobody calls: it is alone
	if err != nil {
		f.t.Fatal(err)
	}
	node, err := consensus.Open(consensus.Config{
		Dir: dir, ID: self, ClusterID: f.cluster, Listener: ln, TLS: identity, Store: store, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return node
}

// rss is the memory of the fleet's process.
func (f *fleet) rss() string {
	f.t.Helper()
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(f.PID) + "/status")
	if err != nil {
		f.t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				f.t.Fatal(err)
			}
			return fmt.Sprintf("%d MiB", kib>>10)
		}
	}
	f.t.Fatalf("no VmRSS in\n%s", raw)
	return ""
}
