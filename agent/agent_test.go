package agent

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"github.com/slipway-ci/slipway/shared/wire"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// A whole agent over a real store, real gossip, mutual TLS and real processes.
// One test, since a program can only have one embedded store.
func TestAgent(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	stop := b.agent()
	for _, c := range []struct {
		name string
		run  func(t *testing.T, b *bed)
	}{
		{"a step travels", aStepTravels},
		{"caches stay", cachesStay},
		{"a report through S3", aReportThroughS3},
		{"a missing image", aMissingImage},
		{"live tail", liveTail},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, b) })
	}
	b.nothingRemains(t)
	t.Run("restart", func(t *testing.T) { stop = restart(t, b, stop) })
	b.nothingRemains(t)
	stop()
	t.Run("containers", func(t *testing.T) { containers(t, b) })
	t.Run("stops its steps", func(t *testing.T) { stopsItsSteps(t, b) })
	b.nothingRemains(t)
}

func aStepTravels(t *testing.T, b *bed) {
	b.assign("01a", `
echo "hello $PARAM_WHO from $SLIPWAY_STEP, $FROM_AGENT"
echo oops >&2
mkdir -p out; echo made > out/file
printf 'digest=abc\n' > "$SLIPWAY_REPORT_DIR/outputs"
test -S "${SLIPWAY_URL#unix://}" && test -n "$SLIPWAY_TOKEN"
test "$PWD" = "$SLIPWAY_WORKSPACE"
exit 3
`, func(a *wire.Assignment) {
		a.Params = map[string]string{"who": "ada"}
		a.Step.Artifacts = []ci.ArtifactSpec{{Paths: []string{"out/**"}, When: "always"}}
	})
	r := b.report("01a", wire.PhaseFinal)
	if r.Outcome != ci.AttemptFailed || r.Reason != ci.ReasonExitCode || r.ExitCode != 3 || r.Outputs["digest"] != "abc" {
		t.Errorf("report %+v", r)
	}
	if len(r.Artifacts) != 1 || r.Artifacts[0].Path != "out/file" || string(b.get(t, "01a", "artifacts/out/file")) != "made\n" {
		t.Errorf("artifacts %+v", r.Artifacts)
	}
	var s logpath.Status
	if err := json.Unmarshal(b.get(t, "01a", "status.json"), &s); err != nil || s.State != "failed" || *s.ExitCode != 3 {
		t.Errorf("status %+v, %v", s, err)
	}
	if log := b.log(t, "01a", s.Log.Chunks); !strings.Contains(log, "hello ada from unit, yes") || !strings.Contains(log, "oops") {
		t.Errorf("log:\n%s", log)
	}
}

func cachesStay(t *testing.T, b *bed) {
	cached := func(a *wire.Assignment) {
		a.Step.Caches = []ci.CacheSpec{{Path: "cache", Key: "k-{{hash:no/such/*}}", Mode: "exclusive"}}
	}
	b.assign("01b", "echo warm > cache/file", cached)
	if r := b.report("01b", wire.PhaseFinal); r.Outcome != ci.AttemptSucceeded {
		t.Fatalf("%+v", r)
	}
	b.assign("01c", "grep warm cache/file", cached)
	if r := b.report("01c", wire.PhaseFinal); r.Outcome != ci.AttemptSucceeded {
		t.Errorf("%+v", r)
	}
	b.assign("01d", "test ! -e cache/file", cached, func(a *wire.Assignment) { a.Tenant = "other" })
	if r := b.report("01d", wire.PhaseFinal); r.Outcome != ci.AttemptSucceeded {
		t.Errorf("one tenant sees another's cache: %+v", r)
	}
}

// A step that reports through S3 with the credentials of its environment, and
// sleeps for ever, is over.
func aReportThroughS3(t *testing.T, b *bed) {
	creds := filepath.Join(b.dir, "creds")
	b.assign("01e", `env > `+creds+`.new; mv `+creds+`.new `+creds+`; trap "" TERM; while :; do sleep 1; done`)
	b.eventually("the step is running", func() bool { return b.states["01e"] == "running" })
	env := map[string]string{}
	b.eventually("its environment", func() bool {
		data, err := os.ReadFile(creds)
		for line := range strings.Lines(string(data)) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
			env[k] = v
		}
		return err == nil
	})
	store, err := objectstore.Open(t.Context(), objectstore.Config{
		Endpoint: env["AWS_ENDPOINT_URL_S3"], Region: env["AWS_REGION"], Bucket: b.store.Bucket,
		AccessKey: env["AWS_ACCESS_KEY_ID"], SecretKey: env["AWS_SECRET_ACCESS_KEY"], PathStyle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	p, err := logpath.Parse(env["LOG_PATH"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), p.Prefix()+"-not-mine/x", strings.NewReader("x"), 1, objectstore.PutOptions{}); ci.KindOf(err) != ci.Forbidden {
		t.Errorf("a step may write elsewhere: %v", err)
	}
	began := time.Now()
	if _, err := store.Put(t.Context(), p.Complete(), strings.NewReader("SUCCESS"), 7, objectstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	r := b.report("01e", wire.PhaseExited)
	t.Logf("over %s after its report", time.Since(began))
	if r.Outcome != ci.AttemptSucceeded || r.ExitCode != 137 {
		t.Errorf("%+v", r)
	}
	b.report("01e", wire.PhaseFinal)
}

func aMissingImage(t *testing.T, b *bed) {
	b.assign("01f", "true", func(a *wire.Assignment) { a.Step.Image = "golang" })
	if r := b.report("01f", wire.PhaseRejected); r.Reason != ci.ReasonInfra || !strings.Contains(r.Message, "needs an agent with Docker") {
		t.Errorf("%+v", r)
	}
}

func liveTail(t *testing.T, b *bed) {
	b.assign("01g", `echo first; while [ ! -e go ]; do sleep 0.05; done; echo last`)
	b.eventually("the step is running", func() bool { return b.states["01g"] == "running" })
	b.update(func() { b.orders = []*pb.TailOrder{{Id: "t", Attempt: "01g", Limit: 10, WaitSeconds: 30}} })
	select {
	case m := <-b.tails:
		if len(m.GetRecords()) < 1 || m.GetEnd() || m.GetProblem() != "" {
			t.Errorf("answer %v", m)
		}
	case <-time.After(patience):
		t.Fatal("no answer")
	}
	found, err := filepath.Glob(filepath.Join(b.dir, "data", "work", "pay", "build", "unit*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("workspaces %v, %v", found, err)
	}
	if err := os.WriteFile(filepath.Join(found[0], "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := b.report("01g", wire.PhaseFinal); r.Outcome != ci.AttemptSucceeded {
		t.Errorf("%+v", r)
	}
}

// A step runs on while its agent restarts: one start, its whole log, its doors.
func restart(t *testing.T, b *bed, stop func()) func() {
	b.assign("01h", `echo x >> `+b.dir+`/starts; for i in 1 2 3 4 5 6 7 8 9 10; do echo "line $i"; sleep 0.2; done; test -S "${SLIPWAY_URL#unix://}"`)
	b.eventually("the step is running", func() bool { return b.states["01h"] == "running" })
	stop()
	stop = b.agent()
	r := b.report("01h", wire.PhaseFinal)
	if r.Outcome != ci.AttemptSucceeded || r.ExitCode != 0 {
		t.Errorf("%+v", r)
	}
	if starts, err := os.ReadFile(b.dir + "/starts"); err != nil || string(starts) != "x\n" {
		t.Errorf("starts %q, %v", starts, err)
	}
	log := b.log(t, "01h", r.Log.Chunks)
	if n := strings.Count(log, "line "); n != 10 {
		t.Errorf("%d lines:\n%s", n, log)
	}
	return stop
}

func stopsItsSteps(t *testing.T, b *bed) {
	stop := b.agent(func(c *Config) { c.CancelOnStop = func() bool { return true } })
	b.assign("01i", "sleep 1000")
	b.eventually("the step is running", func() bool { return b.states["01i"] == "running" })
	stop()
	if r := b.report("01i", wire.PhaseFinal); r.Outcome != ci.AttemptCanceled || r.Reason != ci.ReasonAgentShutdown {
		t.Errorf("%+v", r)
	}
}

// nothingRemains checks the agent's folders once it has ended its attempts.
func (b *bed) nothingRemains(t *testing.T) {
	t.Helper()
	b.eventually("folders are empty", func() bool {
		for _, pattern := range []string{"data/attempts/*", "data/journal/0*", "data/process/*", "data/work/*/*/*", "run/*"} {
			if found, err := filepath.Glob(filepath.Join(b.dir, pattern)); err != nil || len(found) > 0 {
				return false
			}
		}
		return true
	})
}

func (b *bed) get(t *testing.T, attempt, name string) []byte {
	t.Helper()
	store, err := objectstore.Open(t.Context(), b.store)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	r, err := store.Get(t.Context(), logpath.New(b.root, "pay", "01run", attempt, 1, 7).Key(name), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func (b *bed) log(t *testing.T, attempt string, chunks int) string {
	t.Helper()
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var text []byte
	for n := range chunks {
		name := strings.TrimPrefix(logpath.New(b.root, "pay", "01run", attempt, 1, 7).Chunk(n+1), logpath.New(b.root, "pay", "01run", attempt, 1, 7).Key(""))
		if text, err = z.DecodeAll(b.get(t, attempt, name), text); err != nil {
			t.Fatal(err)
		}
	}
	return string(text)
}
