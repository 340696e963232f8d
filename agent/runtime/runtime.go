// Package runtime is what an agent needs of a thing that runs steps: seven
// methods, each idempotent by attempt, so that a worker that crashed anywhere
// may simply call again.
package runtime

import (
	"context"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Runtime runs one attempt of a step. Every method may be repeated after a
// crash of the agent at any point and then finds what the first call made.
// Errors of Prepare mean that no user code ran: the attempt is REJECTED; a
// *Problem carries the reason.
type Runtime interface {
	// Prepare makes everything that can be made before user code may start:
	// pulls the image, creates the container or the process' folder.
	Prepare(ctx context.Context, s Spec) (Handle, error)
	// Start lets the user's code run. Starting what runs or ran is no error. A
	// command that cannot be executed is none either: it is the step's own
	// failure, and Wait answers 127 or 126 with a message.
	Start(ctx context.Context, h Handle) error
	// Wait returns how the user's code ended, also when it ended long ago. Before
	// Start it answers a ci.Conflict.
	Wait(ctx context.Context, h Handle) (Exit, error)
	// Logs hands every record after since to the sink, in order, exactly once,
	// until the code has ended and everything is read, or ctx ends.
	Logs(ctx context.Context, h Handle, since Cursor, sink Sink) error
	// Stop sends the signal (name such as SIGTERM), waits the grace, then kills
	// the whole tree. It returns once nothing of the attempt runs any more. After
	// it, a Start that comes late runs nothing.
	Stop(ctx context.Context, h Handle, signal string, grace time.Duration) error
	// Remove deletes everything the runtime made for the attempt; it kills what
	// still runs. Removing what is gone is no error.
	Remove(ctx context.Context, h Handle) error
	// List finds every attempt of this cluster and agent that still has
	// something on the host.
	List(ctx context.Context) (map[ci.AttemptID]Handle, error)
}

// Spec is what to run.
type Spec struct {
	Attempt    ci.AttemptID
	Tenant     ci.TenantID
	Run        ci.RunID
	Step       string
	Image      string // docker only
	Pull       ci.PullPolicy
	Script     string   // run by Shell when non-empty
	Shell      []string // argv of the interpreter, the script's path is appended; default /bin/sh -e
	Command    []string // argv; without Script and Command the image's own entry point runs
	Env        []string // KEY=VALUE, complete and in order
	WorkDir    string
	Mounts     []Mount
	Resources  ci.Resources
	StopSignal string
	// Dir is the attempt's own folder on the host (exists, mode 0755). The
	// runtime may keep files in Dir/runtime.
	Dir string
	// Writable are folders on the host that the step's user must be able to
	// write; the runtime gives them, with what is in them at Prepare, to the
	// image's numeric user, or opens them.
	Writable []string
}

// Mount makes a path of the host visible to the step. The process runtime
// only accepts mounts whose Source equals Target, or makes Target a symlink
// inside the attempt's own folders.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Handle names what a runtime made for an attempt; it is journalled as JSON.
type Handle struct {
	Attempt     ci.AttemptID
	Runtime     string // docker or process
	ID          string // container id, or the folder of the process
	ImageDigest string // repo@sha256:..., or the image's id where it has no digest
}

// Exit is how user code ended. Reason is set where the runtime knows better
// than the exit code: oom, docker_restarted, infra.
type Exit struct {
	Code    int
	Reason  ci.Reason
	Message string
	At      time.Time
}

// Cursor is a place in a log, opaque to everybody but the runtime that gave
// it. The zero cursor is the beginning.
type Cursor string

// Record is one piece of output: a whole line without its newline, or a part
// of an overlong line (Partial: the line goes on in the next record of the
// stream, if there is one; a last line without a newline is Partial too). Cursor is the place just behind the record.
type Record struct {
	Time    time.Time
	Stderr  bool
	Partial bool
	Data    []byte // valid until Write returns
	Cursor  Cursor
}

// MaxRecord is the longest Data of a record in bytes; longer lines come in parts.
const MaxRecord = 16 << 10

// Sink takes log records; an error ends Logs.
type Sink interface {
	Write(r Record) error
}

// Problem is an error of Prepare or Start with the reason users see.
type Problem struct {
	Reason ci.Reason
	Err    error
}

// Error returns the cause's text.
func (p *Problem) Error() string { return p.Err.Error() }

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Err }
