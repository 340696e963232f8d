package ci

import "time"

// RunState is where a run stands.
//
//	queued -> running <-> blocked -> passed | failed | timed_out | expired
//	   |         +-> canceling -> canceled
//	   +-> canceled              a finished run is running again after a retry
type RunState string

// The run states.
const (
	RunQueued    RunState = "queued"
	RunRunning   RunState = "running"
	RunBlocked   RunState = "blocked"
	RunCanceling RunState = "canceling"
	RunPassed    RunState = "passed"
	RunFailed    RunState = "failed"
	RunCanceled  RunState = "canceled"
	RunTimedOut  RunState = "timed_out"
	RunExpired   RunState = "expired"
)

// Terminal reports whether the run is over (until somebody retries it).
func (s RunState) Terminal() bool {
	switch s {
	case RunPassed, RunFailed, RunCanceled, RunTimedOut, RunExpired:
		return true
	default:
		return false
	}
}

// StepState is what users see of a step.
type StepState string

// The step states.
const (
	StepPending    StepState = "pending"
	StepBlocked    StepState = "blocked"
	StepQueued     StepState = "queued"
	StepAssigned   StepState = "assigned"
	StepPreparing  StepState = "preparing"
	StepRunning    StepState = "running"
	StepReporting  StepState = "reporting"
	StepCanceling  StepState = "canceling"
	StepPassed     StepState = "passed"
	StepFailed     StepState = "failed"
	StepSoftFailed StepState = "soft_failed"
	StepCanceled   StepState = "canceled"
	StepTimedOut   StepState = "timed_out"
	StepExpired    StepState = "expired"
	StepSkipped    StepState = "skipped"
	StepNotRun     StepState = "not_run"
	StepLost       StepState = "lost"
)

// Terminal reports whether the step is over in its present generation.
func (s StepState) Terminal() bool {
	switch s {
	case StepPassed, StepFailed, StepSoftFailed, StepCanceled, StepTimedOut,
		StepExpired, StepSkipped, StepNotRun, StepLost:
		return true
	default:
		return false
	}
}

// Satisfies reports whether steps that need this one may start.
func (s StepState) Satisfies() bool {
	return s == StepPassed || s == StepSoftFailed || s == StepSkipped
}

// Failing reports whether the state is a hard failure of the run.
func (s StepState) Failing() bool {
	switch s {
	case StepFailed, StepTimedOut, StepExpired, StepLost:
		return true
	default:
		return false
	}
}

// Run is one run of a workflow on one commit. Rows are replaced, never edited.
type Run struct {
	ID           RunID
	Tenant       TenantID
	WorkflowHash string    // key of the workflow in the state
	Workflow     *Workflow `cbor:"-"` // shared, filled from WorkflowHash
	Source       Source
	Params       map[string]string // canonical text, defaults filled in
	Only, Skip   []string          // steps chosen or left out at submit
	CreatedBy    Actor
	State        RunState
	Reason       Reason
	Message      string
	Round        int // how often the run has finished, counting the one under way
	Cancel       *CancelRequest
	Steps        []*StepRun // same order as Workflow.Steps

	Created    ClusterTime // run timeout counts from Started
	Started    ClusterTime
	CreatedAt  time.Time // wall
	StartedAt  time.Time // wall; zero until a first step is assigned
	FinishedAt time.Time // wall; zero until terminal
	Index      uint64    // of the log entry that changed the run last
}

// Step returns the step run with the given id, or nil.
func (r *Run) Step(id string) *StepRun {
	for _, s := range r.Steps {
		if s.ID == id {
			return s
		}
	}
	return nil
}

// Source is the code that a run works on. Exactly one of a commit of Repo and
// a source archive in S3 is there, or neither for a bare file.
type Source struct {
	Repo    string // URL or path that git understands
	SHA     string // full commit id
	Ref     string // full ref, refs/heads/main
	Branch  string
	Tag     string
	Archive string // hex sha256 of a source archive, for --local
	Dirty   bool
}

// CancelRequest records who canceled a run and why.
type CancelRequest struct {
	By     Actor
	Reason Reason
	Note   string
	Hard   bool // finally steps are canceled too
	At     ClusterTime
}

// StepRun is a step within a run. Attempts and their results never change; a
// retry opens a new generation.
type StepRun struct {
	ID         string
	State      StepState
	Reason     Reason
	Message    string
	Generation int // 1 for the first
	Attempts   []*Attempt
	Result     AttemptID         // the attempt whose outcome is the step's; write-once in a generation
	Outputs    map[string]string // of the last passed generation
	Override   Override          // of the present generation
	SkipNote   string            // why a user skipped it
	SkippedBy  Actor
	StartedAt  time.Time // wall
	FinishedAt time.Time // wall
}

// Last returns the latest attempt of the present generation, or nil.
func (s *StepRun) Last() *Attempt {
	if n := len(s.Attempts); n > 0 && s.Attempts[n-1].Generation == s.Generation {
		return s.Attempts[n-1]
	}
	return nil
}

// Attempt returns the attempt with the given id, or nil.
func (s *StepRun) Attempt(id AttemptID) *Attempt {
	for _, a := range s.Attempts {
		if a.ID == id {
			return a
		}
	}
	return nil
}

// Override is what a retry changes for a step: parameters, environment, and
// whether it heeds what became of the steps before it.
type Override struct {
	Params map[string]string
	Env    map[string]string
	By     Actor
	// Alone says that the step was asked for by name, and nothing before it: it
	// runs though what it needs did not pass.
	Alone bool
}
