package supervisor

import (
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Index is the age of a coordinator's set of assignments. The epoch grows when
// the state is restored or recovered.
type Index struct{ Epoch, Applied uint64 }

// Before reports whether i is older than o.
func (i Index) Before(o Index) bool {
	return i.Epoch < o.Epoch || i.Epoch == o.Epoch && i.Applied < o.Applied
}

// Assignment is everything that running one attempt takes. It has the fields
// of wire.Assignment in their order, so that one converts to the other.
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
	Step       ci.Step // rendered; its Env holds the workflow's too
	Source     ci.Source
	Params     map[string]string
	Outputs    map[string]string // STEP_<ID>_<OUTPUT> of the steps before
	LogPath    string            // s3://..., no trailing slash
	CacheSeed  string            // secret of the tenant that names its caches
	Fork       bool
	Want       ci.Want
	WantReason ci.Reason
}

// Phases of a report.
const (
	PhaseRejected = "rejected" // an infrastructure error before the user's process
	PhaseExited   = "exited"   // the outcome is known, logs and artifacts are not whole yet
	PhaseFinal    = "final"    // everything is in the bucket
)

// Report is news of an attempt that the coordinator commits. It has the fields
// of wire.Report in their order.
type Report struct {
	Attempt     ci.AttemptID
	Fence       uint64
	Phase       string
	Outcome     ci.AttemptState // terminal; zero when rejected
	Reason      ci.Reason
	Message     string
	Exited      bool
	ExitCode    int
	Outputs     map[string]string
	Log         ci.LogManifest
	Artifacts   []ci.Artifact
	StartedAt   time.Time
	FinishedAt  time.Time
	ImageDigest string
}

// Progress is news that may be lost: the next heartbeat says it again. It has
// the fields of wire.Progress in their order.
type Progress struct {
	Attempt     ci.AttemptID
	Fence       uint64
	State       ci.AttemptState // preparing, running or reporting
	StartedAt   time.Time
	Progress    float64 // 0..1, the step's own word
	Note        string
	ImageDigest string
}
