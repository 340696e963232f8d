package state

import "github.com/slipway-ci/slipway/shared/ci"

// PutWorkflow stores one part of a packed workflow; see PackWorkflow. A
// workflow that no run uses is dropped an hour of cluster time after its last
// part.
type PutWorkflow struct {
	Hash        string // hex sha256
	Part, Parts int    // 0 <= Part < Parts
	Data        []byte
}

// CreateRun starts a run. The caller fills ID, Tenant, WorkflowHash, Source,
// Params, Only and Skip; apply fills the rest, CreatedBy from the command's
// actor. With a known key nothing is recorded and the caller finds the earlier
// run by View.Key.
type CreateRun struct{ Run ci.Run }

// CancelRun cancels a run; its finally steps still run unless Hard. An empty
// Reason is canceled_user; timeout makes it end as timed_out.
type CancelRun struct {
	Run    ci.RunID
	Reason ci.Reason
	Note   string
	Hard   bool
}

// The modes of RetryRun.
const (
	// RetryFailed opens every step that did not pass: failed, timed out,
	// expired, lost, canceled, not run.
	RetryFailed = "failed"
	// RetryFrom opens the step From and all that follows it.
	RetryFrom = "from"
	// RetrySteps opens Steps, and what did not run because of them.
	RetrySteps = "steps"
)

// RetryRun opens steps of a run again in a new generation. Params and Env are
// laid over the run's for the opened steps. The finally steps of a finished
// run open again with them.
type RetryRun struct {
	Run    ci.RunID
	Mode   string
	From   string
	Steps  []string
	Params map[string]string
	Env    map[string]string
}

// SkipStep lets a waiting or failed step stand as passed without outputs. A
// running one is canceled first. Note is required.
type SkipStep struct {
	Run  ci.RunID
	Step string
	Note string
}

// CancelStep cancels one step.
type CancelStep struct {
	Run  ci.RunID
	Step string
	Note string
}

// EndStep ends a step in its present generation. Only the engine proposes it.
type EndStep struct {
	Run        ci.RunID
	Step       string
	Generation int
	State      ci.StepState // terminal
	Reason     ci.Reason
	Message    string
	Result     ci.AttemptID // the attempt that decided, if one did
}

// SetRun moves a run to another state. Only the engine proposes it; a terminal
// state is refused while a step is open.
type SetRun struct {
	Run     ci.RunID
	State   ci.RunState
	Reason  ci.Reason
	Message string
}
