package ci

import "strings"

// ParamEnv returns the variable under which a step finds a parameter:
// PARAM_DRY_RUN for dry-run.
func ParamEnv(name string) string { return "PARAM_" + envName(name) }

// OutputEnv returns the variable under which a step finds an output of an
// earlier step: STEP_BUILD_IMAGE_DIGEST for output digest of step build.image.
// Distinct pairs may share a variable; the parser refuses such files.
func OutputEnv(step, output string) string {
	return "STEP_" + envName(step) + "_" + envName(output)
}

// envName upper-cases ASCII letters and turns all else that a shell variable
// cannot hold into underscores.
func envName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		default:
			return '_'
		}
	}, s)
}
