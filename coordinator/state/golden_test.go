package state

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

const goldenLog = "testdata/log.golden"

// TestGoldenLog applies a log that holds an entry of every op ever released.
// Lines are never changed, only added: with SLIPWAY_GOLDEN=1 the test adds an
// entry for each op that has none.
func TestGoldenLog(t *testing.T) {
	if os.Getenv("SLIPWAY_GOLDEN") == "1" {
		extendGolden(t)
	}
	s := New()
	seen := map[string]bool{}
	for i, line := range goldenLines(t) {
		data, err := hex.DecodeString(line)
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		e, err := DecodeEntry(data)
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		for _, c := range e.Commands {
			seen[c.Op.Name()] = true
		}
		for j, err := range s.ApplyEntry(uint64(i+1), data) {
			if err != nil {
				t.Errorf("line %d, %s: %v", i+1, e.Commands[j].Op.Name(), err)
			}
		}
	}
	for name := range makers {
		if !seen[name] {
			t.Errorf("no entry of %s in %s; add one to goldenEntries and run with SLIPWAY_GOLDEN=1", name, goldenLog)
		}
	}
	if r := s.View().Run("01run"); r == nil || r.State != ci.RunPassed {
		t.Errorf("the log ends with run %+v", r)
	}
}

func goldenLines(t *testing.T) []string {
	data, err := os.ReadFile(goldenLog)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if line := sc.Text(); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// extendGolden writes the file when it is not there, else appends what is new.
func extendGolden(t *testing.T) {
	have := map[string]bool{}
	if _, err := os.Stat(goldenLog); err == nil {
		for _, line := range goldenLines(t) {
			data, _ := hex.DecodeString(line)
			e, err := DecodeEntry(data)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range e.Commands {
				have[c.Op.Name()] = true
			}
		}
	}
	f, err := os.OpenFile(goldenLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, ops := range goldenEntries(t) {
		fresh := len(have) == 0
		for _, op := range ops {
			fresh = fresh || !have[op.Name()]
		}
		if !fresh {
			continue
		}
		line := "\n# "
		e := Entry{Stamp: Stamp{Wall: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Cluster: ci.ClusterTime(time.Minute)}}
		for _, op := range ops {
			line += op.Name() + " "
			e.Commands = append(e.Commands, Command{Actor: user, Op: op})
		}
		data, err := EncodeEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(strings.TrimRight(line, " ") + "\n" + hex.EncodeToString(data) + "\n"); err != nil {
			t.Fatal(err)
		}
	}
}

// goldenEntries is the life of a small cluster, every op in it, every field set.
func goldenEntries(t *testing.T) [][]Op {
	wall := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w := &ci.Workflow{Name: "w", Version: 1, Params: []ci.Param{{Name: "p", Type: ci.ParamString}}, Steps: []ci.Step{
		{ID: "a", Run: "true", Retry: []ci.RetryRule{{On: []ci.Reason{ci.ReasonInfra}, Limit: 2}}, Timeout: time.Hour},
		{ID: "b", Needs: []string{"a"}, Run: "true"},
		{ID: "c", Run: "true"},
		{ID: "d", Run: "true"},
		{ID: "e", Run: "true"},
		{ID: "f", Run: "true"},
	}}
	hash, parts, err := PackWorkflow(w)
	if err != nil {
		t.Fatal(err)
	}
	const run ci.RunID = "01run"
	assign := func(step string, id ci.AttemptID) []Op {
		return []Op{
			&QueueAttempt{Run: run, Step: step, Attempt: id, Generation: 1, NotBefore: 1, Resources: ci.Resources{MilliCPU: 100}, PreferOther: true},
			&AssignAttempt{Run: run, Step: step, Attempt: id, Agent: "agent", Resources: ci.Resources{MilliCPU: 200, Memory: 1 << 20, Disk: 1, Pids: 2}},
		}
	}
	var ids []string
	for _, s := range w.Steps[2:] {
		ids = append(ids, s.ID)
	}
	var end []Op
	for _, id := range append([]string{"b"}, ids...) {
		end = append(end, &EndStep{Run: run, Step: id, Generation: 1, State: ci.StepNotRun, Reason: ci.ReasonDependencyFailed, Message: "m"})
	}
	return [][]Op{
		{&InitCluster{ID: "cluster", Seed: []byte("seed")}, &Tick{}},
		{&CreateTenant{Tenant: ci.Tenant{ID: "default", Grants: []string{ci.GrantDockerRaw}, MaxQueued: 10}}},
		{&CreateToken{Token: ci.Token{ID: "token", Hash: "hash", User: "ann", Role: ci.RoleAdmin, Tenant: "default"}}, &RevokeToken{ID: "token"}},
		{&RegisterAgent{Agent: ci.Agent{
			ID: "agent", Name: "host", BootID: "boot", Version: "v1", Queues: []string{"default"}, Tags: map[string]string{"os": "linux"},
			Capacity: ci.Resources{MilliCPU: 4000, Memory: 1 << 30, Disk: 1 << 30, Pids: 100}, Slots: 8, Executors: []string{"docker"},
		}}},
		{&CheckpointAgents{Seen: []AgentSeen{{ID: "agent", Wall: wall}}}, &AgentSilent{ID: "agent"}, &AgentHeard{ID: "agent"}},
		{&parts[0]},
		{&CreateRun{Run: ci.Run{
			ID: run, Tenant: "default", WorkflowHash: hash, Params: map[string]string{"p": "1"},
			Source: ci.Source{Repo: "r", SHA: "s", Ref: "refs/heads/main", Branch: "main", Tag: "t", Archive: "a", Dirty: true},
		}}},
		assign("a", "01a"),
		{&AcceptAttempt{Run: run, Step: "a", Attempt: "01a", Fence: 1, Agent: "agent", Incarnation: 1}},
		{&Progress{Items: []ProgressItem{{Run: run, Step: "a", Attempt: "01a", Fence: 1, Agent: "agent", Incarnation: 1, State: ci.AttemptRunning, StartedAt: wall, Progress: 0.5, Note: "n", ImageDigest: "d"}}}},
		{&ReportAttempt{
			Run: run, Step: "a", Attempt: "01a", Fence: 1, Agent: "agent", Incarnation: 1, Phase: PhaseFinal, Outcome: ci.AttemptFailed,
			Reason: ci.ReasonExitCode, Message: "m", Exited: true, ExitCode: 3, Outputs: map[string]string{"k": "v"},
			Log:       ci.LogManifest{Lines: 1, Bytes: 2, Chunks: 3, SHA256: "x", Truncated: true},
			Artifacts: []ci.Artifact{{Path: "p", Size: 1, SHA256: "y"}}, StartedAt: wall, FinishedAt: wall, ImageDigest: "d",
		}},
		{&EndStep{Run: run, Step: "a", Generation: 1, State: ci.StepFailed, Reason: ci.ReasonExitCode, Message: "m", Result: "01a"}},
		assign("c", "01c"),
		{&UnacceptAttempt{Run: run, Step: "c", Attempt: "01c", Fence: 2}},
		assign("d", "01d"),
		{&LoseAttempt{Run: run, Step: "d", Attempt: "01d", Fence: 3, Reason: ci.ReasonAgentLost, Message: "m"}},
		{
			&QueueAttempt{Run: run, Step: "e", Attempt: "01e"},
			&WantAttempt{Run: run, Step: "e", Attempt: "01e", Want: ci.WantCancel, Reason: ci.ReasonCanceledUser},
		},
		{&CancelStep{Run: run, Step: "f", Note: "n"}},
		end[:len(end)-1],
		{&SetRun{Run: run, State: ci.RunFailed, Reason: ci.ReasonExitCode, Message: "m"}},
		{&RetryRun{Run: run, Mode: RetryFrom, From: "a", Params: map[string]string{"p": "2"}, Env: map[string]string{"E": "1"}}},
		{&SkipStep{Run: run, Step: "a", Note: "n"}, &SkipStep{Run: run, Step: "b", Note: "n"}},
		{&CancelRun{Run: run, Reason: ci.ReasonCanceledUser, Note: "n", Hard: true}},
		{&SetRun{Run: run, State: ci.RunPassed}},
	}
}
