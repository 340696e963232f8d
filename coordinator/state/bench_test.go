package state

import (
	"fmt"
	"testing"

	"github.com/slipway-ci/slipway/shared/ci"
)

// BenchmarkApply measures an entry of one command among n runs of 50 steps,
// view and all: it must not grow with n.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := New()
			var steps []ci.Step
			for i := range 50 {
				steps = append(steps, def(fmt.Sprintf("step-%d", i)))
			}
			hash, parts, err := PackWorkflow(&ci.Workflow{Name: "w", Steps: steps})
			if err != nil {
				b.Fatal(err)
			}
			index := uint64(0)
			do := func(op Op) {
				index++
				if err := s.applyEntry(index, Entry{Commands: []Command{{Actor: ci.System, Op: op}}})[0]; err != nil {
					b.Fatal(err)
				}
			}
			do(&CreateTenant{Tenant: ci.Tenant{ID: "default", MaxQueued: 1 << 30}})
			do(&PutWorkflow{Hash: hash, Parts: 1, Data: parts[0].Data})
			for i := range n {
				do(&CreateRun{Run: ci.Run{ID: ci.RunID(fmt.Sprintf("r%06d", i)), Tenant: "default", WorkflowHash: hash}})
			}
			do(&RegisterAgent{Agent: agentOf("a1", 1<<30)})
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				id := ci.AttemptID(fmt.Sprintf("t%d", i))
				run := ci.RunID(fmt.Sprintf("r%06d", i%n))
				do(&QueueAttempt{Run: run, Step: "step-7", Attempt: id})
				do(&AssignAttempt{Run: run, Step: "step-7", Attempt: id, Agent: "a1"})
				do(&UnacceptAttempt{Run: run, Step: "step-7", Attempt: id, Fence: s.View().Fence()})
				i++
			}
		})
	}
}
