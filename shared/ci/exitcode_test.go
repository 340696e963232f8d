package ci

import "testing"

func TestExitCode(t *testing.T) {
	t.Parallel()
	step := func(s StepState, r Reason) *StepRun { return &StepRun{State: s, Reason: r} }
	for name, c := range map[string]struct {
		state RunState
		steps []*StepRun
		want  int
	}{
		"running":             {RunRunning, nil, 0},
		"passed":              {RunPassed, []*StepRun{step(StepPassed, "")}, 0},
		"failed":              {RunFailed, []*StepRun{step(StepFailed, ReasonExitCode)}, 1},
		"failed without step": {RunFailed, nil, 1},
		"infrastructure": {RunFailed, []*StepRun{
			step(StepLost, ReasonAgentLost), step(StepFailed, ReasonImagePull), step(StepNotRun, ReasonDependencyFailed),
		}, 9},
		"both": {RunFailed, []*StepRun{step(StepLost, ReasonAgentLost), step(StepFailed, ReasonExitCode)}, 1},
		"soft failures do not count": {RunFailed, []*StepRun{
			step(StepSoftFailed, ReasonExitCode), step(StepLost, ReasonAgentLost),
		}, 9},
		"canceled":  {RunCanceled, nil, 3},
		"timed out": {RunTimedOut, nil, 4},
		"expired":   {RunExpired, nil, 4},
	} {
		if got := ExitCode(&Run{State: c.state, Steps: c.steps}); got != c.want {
			t.Errorf("%s: exit code %d, want %d", name, got, c.want)
		}
	}
}
