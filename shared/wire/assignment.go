package wire

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/slipway-ci/slipway/shared/ci"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// Assignment is everything an agent needs to run one attempt. Of two for the
// same attempt only Want and WantReason may differ.
type Assignment struct {
	Attempt    ci.AttemptID
	Fence      uint64
	Number     int
	Generation int
	Tenant     ci.TenantID
	Run        ci.RunID
	RunState   ci.RunState // what a finally step sees of its run
	RunReason  ci.Reason
	Workflow   string
	Step       ci.Step // rendered: no templates left
	Source     ci.Source
	Params     map[string]string // as this step sees them
	Outputs    map[string]string // STEP_<ID>_<OUTPUT> of the steps before
	LogPath    string            // s3://..., no trailing slash
	CacheSeed  string            // secret of the tenant that names its caches
	Fork       bool              // the source comes from a fork: less trust
	Want       ci.Want
	WantReason ci.Reason
}

// AssignmentMessage renders an assignment. It fails only on a step that cannot
// be encoded, which no parsed step is.
func AssignmentMessage(a *Assignment) (*pb.Assignment, error) {
	step, err := cbor.Marshal(a.Step)
	if err != nil {
		return nil, fmt.Errorf("cannot encode step %s: %w", a.Step.ID, err)
	}
	source, err := cbor.Marshal(a.Source)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the source of run %s: %w", a.Run, err)
	}
	return &pb.Assignment{
		Attempt: string(a.Attempt), Fence: a.Fence,
		Number: int32(a.Number), Generation: int32(a.Generation),
		Tenant: string(a.Tenant), Run: string(a.Run), Step: a.Step.ID, Workflow: a.Workflow,
		RunState: string(a.RunState), RunReason: string(a.RunReason),
		StepCbor: step, SourceCbor: source,
		Params: a.Params, Outputs: a.Outputs,
		LogPath: a.LogPath, CacheSeed: a.CacheSeed, Fork: a.Fork,
		Want: a.Want.String(), WantReason: string(a.WantReason),
	}, nil
}

// AssignmentFrom is the reverse of AssignmentMessage. It fails on what only a
// newer coordinator would send: an agent that guesses could run the wrong thing.
func AssignmentFrom(m *pb.Assignment) (*Assignment, error) {
	a := &Assignment{
		Attempt: ci.AttemptID(m.GetAttempt()), Fence: m.GetFence(),
		Number: int(m.GetNumber()), Generation: int(m.GetGeneration()),
		Tenant: ci.TenantID(m.GetTenant()), Run: ci.RunID(m.GetRun()), Workflow: m.GetWorkflow(),
		RunState: ci.RunState(m.GetRunState()), RunReason: ci.Reason(m.GetRunReason()),
		Params: m.GetParams(), Outputs: m.GetOutputs(),
		LogPath: m.GetLogPath(), CacheSeed: m.GetCacheSeed(), Fork: m.GetFork(),
		WantReason: ci.Reason(m.GetWantReason()),
	}
	if err := cbor.Unmarshal(m.GetStepCbor(), &a.Step); err != nil {
		return nil, fmt.Errorf("cannot decode the step of attempt %s: %w", a.Attempt, err)
	}
	if err := cbor.Unmarshal(m.GetSourceCbor(), &a.Source); err != nil {
		return nil, fmt.Errorf("cannot decode the source of attempt %s: %w", a.Attempt, err)
	}
	want, ok := ci.ParseWant(m.GetWant())
	if !ok {
		return nil, fmt.Errorf("cannot take attempt %s: unknown want %q (is the coordinator newer?)", a.Attempt, m.GetWant())
	}
	a.Want = want
	return a, nil
}
