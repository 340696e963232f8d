package supervisor

import (
	"context"
	"log/slog"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

// Deps is what a Supervisor works with.
type Deps struct {
	Dir        string                     // the agent's own; holds journal/ and attempts/
	BootID     string                     // of the kernel: what ran before another one is lost
	Runtimes   map[string]runtime.Runtime // by executor
	Session    Session
	Workspaces Workspaces
	Caches     Caches
	S3         S3Gate  // nil: steps get no S3 credentials
	API        StepAPI // nil: steps get no API
	Logs       Logs
	Store      Store
	StepEnv    map[string]string // added to every step, below everything else
	// Boottime is time since the host's boot, suspensions included. It keeps a
	// step's timeout true over a restart of the agent.
	Boottime func() time.Duration
	Log      *slog.Logger
}

// Session speaks to the coordinators. ci.Conflict and ci.NotFound mean that
// the attempt is not, or no longer, this agent's; every other error is retried.
type Session interface {
	// Accept returns once it is committed that this agent runs the attempt, or
	// with run false when it must not.
	Accept(ctx context.Context, attempt ci.AttemptID, fence uint64) (run bool, want ci.Want, err error)
	// Report returns once the report is committed, or with accepted false when
	// another result stands.
	Report(ctx context.Context, r Report) (accepted bool, err error)
}

// Workspace is where a step works.
type Workspace struct {
	Dir    string // same path inside and outside of containers
	Mirror string // when not empty: to be visible, read-only, at its own path
}

// Workspaces hands out workspaces with the run's code in them. All is
// idempotent by attempt.
type Workspaces interface {
	Prepare(ctx context.Context, a *Assignment, tell func(string)) (Workspace, error)
	// Adopt holds a workspace that an earlier agent handed out.
	Adopt(attempt ci.AttemptID, w Workspace)
	Release(attempt ci.AttemptID) error
}

// CacheLease is one cache volume in use.
type CacheLease struct {
	Spec   ci.CacheSpec // its key resolved
	Source string       // folder on the host
	Target string       // as the step names it: absolute, or below the workspace
}

// Caches hands out cache volumes. All is idempotent by attempt.
type Caches interface {
	Acquire(ctx context.Context, a *Assignment, workspace string, tell func(string)) ([]CacheLease, error)
	Adopt(a *Assignment, leases []CacheLease)
	Release(attempt ci.AttemptID, passed bool)
}

// S3Grant lets one attempt reach its own LOG_PATH and nothing else.
type S3Grant struct {
	AccessKey, SecretKey string
	Endpoint, Region     string // filled by the gate
}

// S3Gate opens and closes the S3 endpoint of attempts.
type S3Gate interface {
	// Add returns the grant with endpoint and region for a step of the executor.
	Add(attempt ci.AttemptID, executor string, path logpath.Path, g S3Grant) (S3Grant, error)
	Remove(attempt ci.AttemptID)
}

// StepAPI opens and closes the API socket of attempts.
type StepAPI interface {
	// Add returns the folder that holds api.sock.
	Add(a *Assignment, token, reportDir string) (folder string, err error)
	Remove(attempt ci.AttemptID) error
}

// Logs opens an attempt's log in a folder, or takes up the one that is there.
type Logs interface {
	Open(attempt ci.AttemptID, dir string, path logpath.Path) (Log, error)
}

// Log is an attempt's log on the agent's disk and on its way to the bucket. It
// is wide because it is one thing from the first record to the last chunk.
type Log interface {
	runtime.Sink
	Cursor() runtime.Cursor                             // just behind the last record taken
	Say(format string, args ...any)                     // a line of the agent's own
	Manifest() (ci.LogManifest, error)                  // of what there is; all of it is on disk then
	Run(ctx context.Context) error                      // ships until everything is in the bucket
	Finish(ctx context.Context) (ci.LogManifest, error) // ends the log and waits for Run
	Close() error
}

// Store takes what an attempt leaves behind. Put calls but PutState wait for
// a bucket that is away.
type Store interface {
	Artifacts(ctx context.Context, at logpath.Path, workspace string, specs []ci.ArtifactSpec, warn func(format string, args ...any)) ([]ci.Artifact, error)
	PutStatus(ctx context.Context, at logpath.Path, s logpath.Status) error
	PutState(ctx context.Context, at logpath.Path, s logpath.State) error
	PutReport(ctx context.Context, key string, data []byte) error
	GetReport(ctx context.Context, key string) ([]byte, error)
}
