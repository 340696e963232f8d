package ci

// Reason says why a step, attempt or run ended or stands where it does. The
// list is closed: retry rules, pages and metrics use it.
type Reason string

// The reasons.
const (
	ReasonNone             Reason = ""
	ReasonExitCode         Reason = "exit_code"
	ReasonOOM              Reason = "oom"
	ReasonTimeout          Reason = "timeout"
	ReasonCanceledUser     Reason = "canceled_user"
	ReasonSuperseded       Reason = "canceled_superseded"
	ReasonAgentLost        Reason = "agent_lost"
	ReasonAgentShutdown    Reason = "agent_shutdown"
	ReasonImagePull        Reason = "image_pull"
	ReasonCheckout         Reason = "checkout"
	ReasonCache            Reason = "cache"
	ReasonServiceUnready   Reason = "service_unready"
	ReasonSecretMissing    Reason = "secret_missing"
	ReasonPolicy           Reason = "policy"
	ReasonQuota            Reason = "quota"
	ReasonNoAgent          Reason = "no_agent"
	ReasonInfra            Reason = "infra"
	ReasonArtifactUpload   Reason = "artifact_upload"
	ReasonLogUpload        Reason = "log_upload"
	ReasonNoReport         Reason = "no_report"
	ReasonReportedFailure  Reason = "reported_failure"
	ReasonDiskFull         Reason = "disk_full"
	ReasonDockerRestarted  Reason = "docker_restarted"
	ReasonQueueTimeout     Reason = "queue_timeout"
	ReasonIfFalse          Reason = "if_false"
	ReasonDependencyFailed Reason = "dependency_failed"
	ReasonFailFast         Reason = "fail_fast"
	ReasonSkippedByUser    Reason = "skipped_by_user"
	ReasonSkipKey          Reason = "skip"        // the file's own skip
	ReasonNotSelected      Reason = "not_in_only" // left out by --only
	ReasonExpression       Reason = "expression"  // a ${{ }} or if could not be evaluated
	ReasonSelfFenced       Reason = "self_fenced"
)

// Reasons lists every reason that a retry rule may name.
var Reasons = []Reason{
	ReasonExitCode, ReasonOOM, ReasonTimeout, ReasonAgentLost, ReasonAgentShutdown,
	ReasonImagePull, ReasonCheckout, ReasonCache, ReasonServiceUnready, ReasonSecretMissing,
	ReasonPolicy, ReasonQuota, ReasonNoAgent, ReasonInfra, ReasonArtifactUpload,
	ReasonLogUpload, ReasonNoReport, ReasonReportedFailure, ReasonDiskFull, ReasonDockerRestarted,
	ReasonSelfFenced,
}

// Infrastructure reports whether the reason is the fleet's fault, not the user's.
func (r Reason) Infrastructure() bool {
	switch r {
	case ReasonAgentLost, ReasonAgentShutdown, ReasonImagePull, ReasonCheckout, ReasonCache,
		ReasonServiceUnready, ReasonNoAgent, ReasonInfra, ReasonArtifactUpload, ReasonLogUpload,
		ReasonDiskFull, ReasonDockerRestarted, ReasonSelfFenced:
		return true
	default:
		return false
	}
}
