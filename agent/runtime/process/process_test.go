package process_test

import (
	"os"
	"testing"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/runtime/process"
	"github.com/slipway-ci/slipway/agent/runtime/runtimetest"
	"github.com/slipway-ci/slipway/agent/stepinit"
	"github.com/slipway-ci/slipway/shared/needs"
)

func TestMain(m *testing.M) {
	stepinit.MaybeMain()
	needs.NoLeaks(m)
}

func open(t testing.TB, cfg process.Config) *process.Runtime {
	t.Helper()
	r, err := process.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// root is a folder for processes; the test's own could not be removed before
// its steps are.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "slipway-process-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestConformance(t *testing.T) {
	t.Parallel()
	info := open(t, process.Config{Root: root(t)}).Info()
	t.Logf("limits %v %s", info.Limits, info.Reason)
	runtimetest.Run(t, runtimetest.Harness{
		New: func(t *testing.T) func() runtime.Runtime {
			dir := root(t)
			return func() runtime.Runtime { return open(t, process.Config{Root: dir}) }
		},
		ExtraEnv: []string{"PATH", "HOME", "TMPDIR"},
		Limits:   info.Limits,
	})
}
