package ci

import "testing"

func TestEnvNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{ParamEnv("suite"), "PARAM_SUITE"},
		{ParamEnv("dry-run"), "PARAM_DRY_RUN"},
		{ParamEnv("dry_run.x"), "PARAM_DRY_RUN_X"},
		{ParamEnv("é"), "PARAM__"},
		{OutputEnv("image", "digest"), "STEP_IMAGE_DIGEST"},
		{OutputEnv("unit.go-1.25.os-linux.s1", "cover"), "STEP_UNIT_GO_1_25_OS_LINUX_S1_COVER"},
		{OutputEnv("plan-services", "image.digest"), "STEP_PLAN_SERVICES_IMAGE_DIGEST"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}
