package spec

import "strings"

// keySet is what a mapping may hold. Keys of the format that this version does
// not know yet are refused by name, so that nobody believes they do something.
type keySet struct {
	what  string // for messages: "a step"
	known []string
	later []string
}

func words(s string) []string { return strings.Fields(s) }

// The mappings of a workflow file.
var (
	workflowKeys = keySet{
		what: "a workflow",
		known: words(`version name description on params env timeout queue_timeout fail_fast checkout
			defaults steps finally`),
		later: words(`concurrency priority skip_if_passed include environments notify matrix services secrets`),
	}
	onKeys = keySet{
		what: "on", known: words(`dispatch`),
		later: words(`push pull_request tag schedule workflow environment`),
	}
	paramKeys = keySet{
		what:  "a parameter",
		known: words(`type description default options min max min_length max_length pattern`),
	}
	stepKeys = keySet{
		what: "a step",
		known: words(`id name needs if skip image pull executor run shell command env queue tags resources
			timeout queue_timeout cancel retry soft_fail outputs artifacts cache docker completion
			checkout s3`),
		later: words(`matrix shards services secrets block trigger environment concurrency priority uses with
			notify tests annotations id_tokens registry_auth if_changed affinity on_disconnect lost_after
			exclusive network manual_retry inputs deploy`),
	}
	defaultsKeys = keySet{
		what: "defaults",
		known: words(`image pull executor shell queue tags resources timeout queue_timeout cancel retry
			docker completion s3`),
		later: stepKeys.later,
	}
	resourcesKeys = keySet{what: "resources", known: words(`cpu memory disk pids`)}
	cancelKeys    = keySet{what: "cancel", known: words(`signal grace`)}
	retryKeys     = keySet{what: "a retry rule", known: words(`on exit_codes limit backoff agent resources`)}
	retryResKeys  = keySet{what: "the resources of a retry rule", known: words(`cpu memory`)}
	backoffKeys   = keySet{what: "backoff", known: words(`initial factor max`)}
	softFailKeys  = keySet{what: "soft_fail", known: words(`exit_codes`)}
	artifactKeys  = keySet{what: "an artifact", known: words(`paths name when expire`)}
	cacheKeys     = keySet{what: "a cache", known: words(`path key restore scope mode max_size ttl`)}
	checkoutKeys  = keySet{what: "checkout", known: words(`depth submodules lfs path`)}
)

// foreign maps words of other systems to ours.
var foreign = map[string]string{
	"jobs": "steps", "stages": "steps", "pipeline": "steps", "tasks": "steps",
	"commands": "run", "script": "run", "cmd": "run", "entrypoint": "command", "args": "command",
	"depends_on": "needs", "depends-on": "needs", "after": "needs",
	"when": "if", "only": "if", "rules": "if", "condition": "if",
	"label": "name", "key": "id", "title": "name",
	"variables": "env", "environment_variables": "env",
	"container": "image", "runs-on": "tags", "runs_on": "tags", "labels": "tags", "agents": "tags",
	"timeout-minutes": "timeout", "timeout_in_minutes": "timeout",
	"continue-on-error": "soft_fail", "allow_failure": "soft_fail", "failure": "soft_fail",
	"retries": "retry", "artifact_paths": "artifacts", "caches": "cache",
	"always": "finally", "after_script": "finally", "inputs": "params", "parameters": "params",
	"clone": "checkout", "cpus": "cpu", "mem": "memory", "required": "default",
}
