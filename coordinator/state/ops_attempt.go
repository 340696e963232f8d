package state

import (
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// QueueAttempt queues a new attempt of a step.
type QueueAttempt struct {
	Run         ci.RunID
	Step        string
	Attempt     ci.AttemptID
	Generation  int // refused when the step has moved on; 0 is not checked
	NotBefore   ci.ClusterTime
	Resources   ci.Resources
	PreferOther bool // another agent than the earlier attempts', when there is one
}

// AssignAttempt gives a queued attempt to an agent and raises the fence.
// Resources is what is reserved; the zero value keeps what was queued.
type AssignAttempt struct {
	Run       ci.RunID
	Step      string
	Attempt   ci.AttemptID
	Agent     ci.AgentID
	Resources ci.Resources
}

// AcceptAttempt commits that the agent takes the attempt. Only after it may
// user code start.
type AcceptAttempt struct {
	Run         ci.RunID
	Step        string
	Attempt     ci.AttemptID
	Fence       uint64
	Agent       ci.AgentID
	Incarnation uint64
}

// Progress is a batch of news that decide nothing. Items that are late or name
// what is not there are dropped, for newer ones follow.
type Progress struct{ Items []ProgressItem }

// ProgressItem is how one attempt goes.
type ProgressItem struct {
	Run         ci.RunID
	Step        string
	Attempt     ci.AttemptID
	Fence       uint64
	Agent       ci.AgentID
	Incarnation uint64
	State       ci.AttemptState // preparing, running or reporting
	StartedAt   time.Time
	Progress    float64 // 0..1
	Note        string
	ImageDigest string
}

// The phases of ReportAttempt.
const (
	PhaseRejected = "rejected" // infrastructure failed before the user's process
	PhaseExited   = "exited"   // the outcome is known, logs and artifacts are on their way
	PhaseFinal    = "final"    // everything is in the bucket
)

// ReportAttempt is an agent's word on how an attempt ended. An identical
// replay is no error; any other report of a decided attempt is a ci.Conflict.
type ReportAttempt struct {
	Run         ci.RunID
	Step        string
	Attempt     ci.AttemptID
	Fence       uint64
	Agent       ci.AgentID
	Incarnation uint64 // 0 for the coordinator's own report from status.json: not checked
	Phase       string
	Outcome     ci.AttemptState // succeeded, failed, canceled, timed_out or lost; rejected with PhaseRejected
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

// WantAttempt tells an attempt's agent to stop it. One that is not accepted
// yet ends at once.
type WantAttempt struct {
	Run     ci.RunID
	Step    string
	Attempt ci.AttemptID
	Want    ci.Want
	Reason  ci.Reason
}

// LoseAttempt gives an attempt up whose agent cannot be asked any more. An
// outcome that is committed already stands.
type LoseAttempt struct {
	Run     ci.RunID
	Step    string
	Attempt ci.AttemptID
	Fence   uint64
	Reason  ci.Reason
	Message string
}

// UnacceptAttempt takes an attempt back that its agent did not accept in time.
type UnacceptAttempt struct {
	Run     ci.RunID
	Step    string
	Attempt ci.AttemptID
	Fence   uint64
}
