package ci

import "time"

// Workflow is a parsed, validated workflow file. It is immutable: a run keeps
// a pointer to the one it was made from. Strings marked "template" may hold
// ${{ }} expressions, which are rendered when the step becomes ready.
type Workflow struct {
	Version      int
	Name         string
	Description  string
	Params       []Param
	Env          map[string]string // template values
	Timeout      time.Duration     // of the whole run; 0 is none
	QueueTimeout time.Duration     // default of the steps; 0 is none
	FailFast     bool
	Dispatch     bool   // on.dispatch; true unless the file says false
	Steps        []Step // in file order, then the steps of finally
}

// Step returns the step with the given id, or nil.
func (w *Workflow) Step(id string) *Step {
	for i := range w.Steps {
		if w.Steps[i].ID == id {
			return &w.Steps[i]
		}
	}
	return nil
}

// ParamType is the type of a parameter.
type ParamType string

// The parameter types.
const (
	ParamString  ParamType = "string"
	ParamInteger ParamType = "integer"
	ParamNumber  ParamType = "number"
	ParamBoolean ParamType = "boolean"
	ParamChoice  ParamType = "choice"
)

// Param is a typed parameter of a workflow.
type Param struct {
	Name        string
	Type        ParamType
	Description string
	Default     *string // canonical text; nil means that the caller must give it
	Options     []string
	Min, Max    *float64
	MinLength   int
	MaxLength   int // 0 is no limit
	Pattern     string
}

// Step is one step of a workflow. Needs is always explicit here: the parser
// has turned "series by default" into the ids that the step waits for.
type Step struct {
	ID           string
	Name         string
	Line         int // in the file, 1-based
	Needs        []string
	Finally      bool   // belongs to the finally block
	If           string // expression; empty is true
	Skip         string // reason; non-empty leaves the step out
	Image        string // template
	Pull         PullPolicy
	Executor     string // docker or process; template
	Run          string // script text, never templated
	Shell        []string
	Command      []string          // argv, never templated
	Env          map[string]string // template values
	Queue        string            // template
	Tags         map[string]string // template values
	Resources    Resources
	Timeout      time.Duration // 0 is none
	QueueTimeout time.Duration // 0 is the workflow's
	CancelSignal string        // default SIGTERM
	CancelGrace  time.Duration // default 10 s
	Retry        []RetryRule   // as written, or the default rules
	SoftFail     SoftFail
	Outputs      map[string]string // output name to the key a step sets
	Artifacts    []ArtifactSpec
	Caches       []CacheSpec
	Docker       DockerMode
	Completion   Completion
	Checkout     Checkout
	S3           bool // hand the step S3 credentials; default true
}

// DecidesAtFinal reports whether the step's outcome counts only once its
// uploads are whole, since what follows may use them, and not at the exit.
func (s *Step) DecidesAtFinal() bool { return len(s.Artifacts) > 0 }

// Executors.
const (
	ExecutorDocker  = "docker"
	ExecutorProcess = "process"
)

// PullPolicy says when an image is pulled.
type PullPolicy string

// The pull policies.
const (
	PullIfNotPresent PullPolicy = "if-not-present"
	PullAlways       PullPolicy = "always"
	PullNever        PullPolicy = "never"
)

// DockerMode says how a step sees the host's engine.
type DockerMode string

// The docker modes this version knows. Raw mounts the engine's own socket and
// needs a grant of the tenant.
const (
	DockerNone DockerMode = "none"
	DockerRaw  DockerMode = "raw"
)

// GrantDockerRaw is the tenant's grant for docker: raw.
const GrantDockerRaw = "docker_raw"

// Completion says what ends a step.
type Completion string

// The completions: Auto is the first of exit and final report (a reported
// failure beats exit 0), Exit ignores reports, Report waits for one.
const (
	CompletionAuto   Completion = "auto"
	CompletionExit   Completion = "exit"
	CompletionReport Completion = "report"
)

// Resources are what a step asks for, or what an agent has.
type Resources struct {
	MilliCPU int64 // thousandths of a core
	Memory   int64 // bytes
	Disk     int64 // bytes
	Pids     int64
}

// Add returns the sum of both.
func (r Resources) Add(o Resources) Resources {
	return Resources{r.MilliCPU + o.MilliCPU, r.Memory + o.Memory, r.Disk + o.Disk, r.Pids + o.Pids}
}

// Sub returns r less o.
func (r Resources) Sub(o Resources) Resources {
	return Resources{r.MilliCPU - o.MilliCPU, r.Memory - o.Memory, r.Disk - o.Disk, r.Pids - o.Pids}
}

// RetryRule says which failures of a step are tried again by themselves. A
// rule matches when either list names the failure.
type RetryRule struct {
	On        []Reason
	ExitCodes []int
	Limit     int // extra attempts in this generation
	Backoff   Backoff
	Different bool  // prefer another agent
	Memory    int64 // bytes for the next attempt; 0 keeps it
	MilliCPU  int64 // for the next attempt; 0 keeps it
}

// Backoff is the wait before an automatic attempt: Initial * Factor^n, at most Max.
type Backoff struct {
	Initial time.Duration
	Factor  float64
	Max     time.Duration
}

// After returns the wait before retry n (0 for the first).
func (b Backoff) After(n int) time.Duration {
	d := float64(b.Initial)
	for range n {
		d *= max(b.Factor, 1)
		if b.Max > 0 && d >= float64(b.Max) {
			return b.Max
		}
	}
	return time.Duration(d)
}

// SoftFail says which failures do not fail the run.
type SoftFail struct {
	Any       bool
	ExitCodes []int
}

// Covers reports whether a failure with this exit code is soft.
func (s SoftFail) Covers(exit int, exited bool) bool {
	if s.Any {
		return true
	}
	for _, c := range s.ExitCodes {
		if exited && c == exit {
			return true
		}
	}
	return false
}

// ArtifactSpec names files of the workspace to keep.
type ArtifactSpec struct {
	Name   string   // template; prefix of the artifact's path, may be empty
	Paths  []string // templates; doublestar globs below the workspace
	When   string   // always | passed | failed; default passed
	Expire time.Duration
}

// CacheSpec is a folder kept on the host between runs.
type CacheSpec struct {
	Path    string
	Key     string // template; may use hash()
	Restore []string
	Scope   string // tenant | workflow | step
	Mode    string // shared | exclusive
	MaxSize int64
	TTL     time.Duration
}

// Checkout says what lies in the workspace when a step starts.
type Checkout struct {
	Disabled   bool
	Depth      int // 0 is everything
	Submodules bool
	LFS        bool
	Path       string // below the workspace; "." is the workspace itself
}
