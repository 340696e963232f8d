package agent

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/agent/runtime/docker"
	"github.com/slipway-ci/slipway/agent/runtime/runtimetest"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/wire"
)

// containers runs steps in containers of a real engine.
func containers(t *testing.T, b *bed) {
	needs.Image(t, runtimetest.Image)
	stop := b.agent(func(c *Config) { c.Executors = []string{ci.ExecutorDocker, ci.ExecutorProcess} })
	image := func(a *wire.Assignment) {
		a.Step.Image, a.Step.Executor, a.Step.Pull = runtimetest.Image, "", ci.PullNever
	}
	t.Run("a step travels", func(t *testing.T) {
		b.assign("02a", `
echo "in a container: $SLIPWAY_STEP"
test "$PWD" = "$SLIPWAY_WORKSPACE"
mkdir out; echo made > out/file; echo warm > /cache/file
echo digest=abc > "$SLIPWAY_REPORT_DIR/outputs"
test "$SLIPWAY_URL" = unix:///.slipway/api.sock && test -S /.slipway/api.sock
test ! -e /var/run/docker.sock
wget -q -O- "$AWS_ENDPOINT_URL_S3/" 2>&1 | grep 403
`, image, func(a *wire.Assignment) {
			a.Step.Artifacts = []ci.ArtifactSpec{{Name: "kept", Paths: []string{"out"}}}
			a.Step.Caches = []ci.CacheSpec{{Path: "/cache", Key: "k"}}
		})
		r := b.report("02a", wire.PhaseFinal)
		if r.Outcome != ci.AttemptSucceeded || r.Outputs["digest"] != "abc" || len(r.Artifacts) != 1 || r.Artifacts[0].Path != "kept/out/file" || r.ImageDigest == "" {
			t.Errorf("%+v\n%s", r, b.log(t, "02a", r.Log.Chunks))
		}
	})
	t.Run("cache and socket", func(t *testing.T) {
		b.assign("02b", `grep warm /cache/file; test -S /var/run/docker.sock`, image, func(a *wire.Assignment) {
			a.Step.Docker = ci.DockerRaw
			a.Step.Caches = []ci.CacheSpec{{Path: "/cache", Key: "k"}}
		})
		if r := b.report("02b", wire.PhaseFinal); r.Outcome != ci.AttemptSucceeded {
			t.Errorf("%+v\n%s", r, b.log(t, "02b", r.Log.Chunks))
		}
	})
	t.Run("reports and sleeps", func(t *testing.T) {
		b.assign("02c", `echo SUCCESS > "$SLIPWAY_REPORT_DIR/complete"; while :; do sleep 100; done`, image)
		if r := b.report("02c", wire.PhaseFinal); r.Outcome != ci.AttemptSucceeded {
			t.Errorf("%+v", r)
		}
	})
	t.Run("unknown image", func(t *testing.T) {
		b.assign("02d", `true`, image, func(a *wire.Assignment) { a.Step.Image = "slipway-test/not-there" })
		if r := b.report("02d", wire.PhaseRejected); r.Reason != ci.ReasonImagePull || !strings.Contains(r.Message, "not-there") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("restart", func(t *testing.T) {
		b.assign("02e", `for i in 1 2 3 4 5 6 7 8; do echo "line $i"; sleep 0.5; done; wget -q -O- "$AWS_ENDPOINT_URL_S3/" 2>&1 | grep 403`, image)
		b.eventually("the step is running", func() bool { return b.states["02e"] == "running" })
		stop()
		stop = b.agent(func(c *Config) { c.Executors = []string{ci.ExecutorDocker} })
		r := b.report("02e", wire.PhaseFinal)
		if log := b.log(t, "02e", r.Log.Chunks); r.Outcome != ci.AttemptSucceeded || strings.Count(log, "line ") != 8 {
			t.Errorf("%+v\n%s", r, log)
		}
	})
	b.nothingRemains(t)
	stop()
	d, err := docker.New(docker.Config{Cluster: b.authority.Cluster(), Agent: b.me, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if left, err := d.List(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("containers %v, %v", left, err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
