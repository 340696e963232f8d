package supervisor

import (
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-ci/slipway/shared/ci"
)

// envInput is what a step's environment is made of.
type envInput struct {
	*Assignment
	StepEnv   map[string]string // the agent's own
	URL       string            // of the step API
	Token     string
	ReportDir string
	Workspace Workspace
	S3        S3Grant // zero: no credentials
}

// environment returns the whole environment of a step, sorted, and the names
// that the workflow sets in vain. Where two layers name a variable the later
// one counts:
//
//	agent's step_env < the fleet's < parameters and outputs < workflow and step < SLIPWAY_* and LOG_PATH
func environment(in envInput) (env, refused []string) {
	all := map[string]string{}
	put := func(vars map[string]string) {
		for k, v := range vars {
			all[k] = v
		}
	}
	put(in.StepEnv)
	put(fleetEnv(in))
	for name, value := range in.Params {
		all[ci.ParamEnv(name)] = value
	}
	put(in.Outputs)
	put(in.Step.Env)
	fixed := fixedEnv(in)
	for k := range fixed {
		if _, set := in.Step.Env[k]; set {
			refused = append(refused, k)
		}
	}
	put(fixed)
	for k, v := range all {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	slices.Sort(refused)
	return env, refused
}

// fleetEnv is what a workflow may set otherwise.
func fleetEnv(in envInput) map[string]string {
	env := map[string]string{
		"CI": "true", "SLIPWAY": "true",
		"SHARD_INDEX": "0", "SHARD_COUNT": "1",
	}
	if in.RunState != "" {
		env["RUN_STATE"] = string(in.RunState)
	}
	if in.Workspace.Mirror != "" {
		// Mirror and workspace may belong to another user than the image's.
		env["GIT_CONFIG_COUNT"] = "1"
		env["GIT_CONFIG_KEY_0"] = "safe.directory"
		env["GIT_CONFIG_VALUE_0"] = "*"
	}
	if in.S3.AccessKey != "" {
		env["AWS_ACCESS_KEY_ID"] = in.S3.AccessKey
		env["AWS_SECRET_ACCESS_KEY"] = in.S3.SecretKey
		env["AWS_REGION"] = in.S3.Region
		env["AWS_DEFAULT_REGION"] = in.S3.Region
		env["AWS_ENDPOINT_URL_S3"] = in.S3.Endpoint
		env["AWS_ENDPOINT_URL"] = in.S3.Endpoint
	}
	return env
}

// fixedEnv says who and where the step is; nothing may say otherwise.
func fixedEnv(in envInput) map[string]string {
	env := map[string]string{
		"LOG_PATH":            in.LogPath,
		"SLIPWAY_TENANT":      string(in.Tenant),
		"SLIPWAY_WORKFLOW":    in.Workflow,
		"SLIPWAY_RUN_ID":      string(in.Run),
		"SLIPWAY_STEP":        in.Step.ID,
		"SLIPWAY_ATTEMPT":     strconv.Itoa(in.Number),
		"SLIPWAY_ATTEMPT_ID":  string(in.Attempt),
		"SLIPWAY_FENCE":       strconv.FormatUint(in.Fence, 10),
		"SLIPWAY_REPORT_DIR":  in.ReportDir,
		"SLIPWAY_WORKSPACE":   in.Workspace.Dir,
		"SLIPWAY_REPO":        in.Source.Repo,
		"SLIPWAY_SHA":         in.Source.SHA,
		"SLIPWAY_REF":         in.Source.Ref,
		"SLIPWAY_BRANCH":      in.Source.Branch,
		"SLIPWAY_TAG":         in.Source.Tag,
		"SLIPWAY_PR":          "",
		"SLIPWAY_ENVIRONMENT": "",
	}
	if in.URL != "" {
		env["SLIPWAY_URL"] = in.URL
		env["SLIPWAY_TOKEN"] = in.Token
	}
	return env
}

// names lists the variables of an environment, for log lines.
func names(vars []string) string { return strings.Join(vars, ", ") }
