package ci

// ExitCode returns what a client that followed the run exits with: 0 passed,
// 1 failed, 3 canceled, 4 timed out or expired, 9 when nothing but
// infrastructure failed it. A run that is not over has none: 0 too.
func ExitCode(r *Run) int {
	switch r.State {
	case RunCanceled:
		return 3
	case RunTimedOut, RunExpired:
		return 4
	case RunFailed:
		if onlyInfrastructure(r) {
			return 9
		}
		return 1
	default:
		return 0
	}
}

// onlyInfrastructure reports whether every failing step, and there is one,
// failed for a reason that is the fleet's fault.
func onlyInfrastructure(r *Run) bool {
	found := false
	for _, s := range r.Steps {
		if !s.State.Failing() {
			continue
		}
		if !s.Reason.Infrastructure() {
			return false
		}
		found = true
	}
	return found
}
