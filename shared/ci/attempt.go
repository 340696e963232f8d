package ci

import "time"

// AttemptState is where an attempt stands. It is a rank: an attempt only ever
// moves to a higher one, and a terminal state is final.
//
//	QUEUED -> ASSIGNED -> ACCEPTED -> PREPARING -> RUNNING -> REPORTING
//	   |         |           |           |            |           |
//	   |         |           |           |            |           +-> SUCCEEDED | FAILED
//	   |         |           +-----------+------------+-----------+-> CANCELED | TIMED_OUT | LOST
//	   |         |           +-----------+-> REJECTED   (before the user's process)
//	   |         +-> UNACCEPTED                         (no accept in time)
//	   +-> CANCELED                                     (never left the queue)
type AttemptState int

// The attempt states; the numbers are stored and never change.
const (
	AttemptQueued     AttemptState = 10
	AttemptAssigned   AttemptState = 20
	AttemptAccepted   AttemptState = 30
	AttemptPreparing  AttemptState = 40
	AttemptRunning    AttemptState = 50
	AttemptReporting  AttemptState = 60
	AttemptSucceeded  AttemptState = 100
	AttemptFailed     AttemptState = 110
	AttemptCanceled   AttemptState = 120
	AttemptTimedOut   AttemptState = 130
	AttemptUnaccepted AttemptState = 140
	AttemptRejected   AttemptState = 145
	AttemptLost       AttemptState = 150
)

// AttemptStates lists every state by rank.
var AttemptStates = []AttemptState{
	AttemptQueued, AttemptAssigned, AttemptAccepted, AttemptPreparing, AttemptRunning,
	AttemptReporting, AttemptSucceeded, AttemptFailed, AttemptCanceled, AttemptTimedOut,
	AttemptUnaccepted, AttemptRejected, AttemptLost,
}

// Terminal reports whether the state is final.
func (s AttemptState) Terminal() bool { return s >= AttemptSucceeded }

// Next returns to and true when an attempt in state s may move there, else s
// and false. Late and repeated news is so dropped, not an error.
func (s AttemptState) Next(to AttemptState) (AttemptState, bool) {
	switch {
	case s.Terminal() || to <= s:
		return s, false
	case to == AttemptUnaccepted && s != AttemptAssigned:
		return s, false // only an assignment can stay without an answer
	case to == AttemptRejected && (s < AttemptAssigned || s >= AttemptRunning):
		return s, false // the user's process has started, or nobody was asked
	case s == AttemptQueued && to != AttemptAssigned && to != AttemptCanceled:
		return s, false // nothing happens to an attempt that no agent has
	case (to == AttemptSucceeded || to == AttemptFailed) && s < AttemptAccepted:
		return s, false // user code starts only after the accept is committed
	}
	return to, true
}

// String returns the state's name as it stands in JSON.
func (s AttemptState) String() string {
	switch s {
	case AttemptQueued:
		return "queued"
	case AttemptAssigned:
		return "assigned"
	case AttemptAccepted:
		return "accepted"
	case AttemptPreparing:
		return "preparing"
	case AttemptRunning:
		return "running"
	case AttemptReporting:
		return "reporting"
	case AttemptSucceeded:
		return "succeeded"
	case AttemptFailed:
		return "failed"
	case AttemptCanceled:
		return "canceled"
	case AttemptTimedOut:
		return "timed_out"
	case AttemptUnaccepted:
		return "unaccepted"
	case AttemptRejected:
		return "rejected"
	case AttemptLost:
		return "lost"
	}
	return "unknown"
}

// Want is what the coordinator wants of an attempt; only it writes it. It only
// moves forward: run, then cancel or timeout.
type Want int

// The wants.
const (
	WantRun Want = iota
	WantCancel
	WantTimeout
)

// String returns the want's name as it stands in JSON.
func (w Want) String() string { return [...]string{"run", "cancel", "timeout"}[w] }

// Attempt is one try of a step on one agent. Its fence is a counter in the
// state, raised by every assignment; number and fence name its place in S3.
type Attempt struct {
	ID         AttemptID
	Number     int // 1, 2, ... within its step
	Generation int
	Fence      uint64
	Agent      AgentID
	State      AttemptState // written from the agent's reports
	Want       Want         // written by the coordinator
	WantReason Reason
	// Outcome is the terminal state that the exit decided, committed before
	// logs and artifacts are whole; zero until then.
	Outcome     AttemptState
	Reason      Reason
	Message     string
	Exited      bool
	ExitCode    int
	ImageDigest string
	Resources   Resources // what is reserved for it; also its limits
	PreferOther bool      // another agent than the earlier attempts', when there is one
	Log         LogManifest
	Artifacts   []Artifact
	Outputs     map[string]string
	Progress    float64 // 0..1 of the step's own report
	Note        string  // message of the step's own report

	NotBefore    ClusterTime // backoff: not assigned earlier
	QueuedSince  ClusterTime
	AssignedAt   ClusterTime // deadlines count from these
	AcceptedTime ClusterTime
	QueuedAt     time.Time // wall, for people
	StartedAt    time.Time // wall, by the agent's clock
	FinishedAt   time.Time // wall
}

// Decided returns the terminal state that counts: the state itself once
// terminal, else the outcome that the exit decided, else zero.
func (a *Attempt) Decided() AttemptState {
	if a.State.Terminal() {
		return a.State
	}
	return a.Outcome
}

// Live reports whether the attempt may still hold something on its agent.
func (a *Attempt) Live() bool { return !a.State.Terminal() }

// LogManifest sums up an attempt's log.
type LogManifest struct {
	Lines, Bytes int64
	Chunks       int
	SHA256       string // of the log's text: every record's bytes and a newline
	Truncated    bool
}

// Artifact is a file kept in S3.
type Artifact struct {
	Path   string // below artifacts/
	Size   int64  // bytes
	SHA256 string // hex
}
