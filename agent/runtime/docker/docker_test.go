package docker_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/runtime/docker"
	"github.com/slipway-ci/slipway/agent/runtime/runtimetest"
	"github.com/slipway-ci/slipway/shared/ci"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(initDir)
		os.Exit(code)
	}))
}

var initDir string

// buildInit makes a slipway-init for all tests of this package.
var buildInit = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "slipway-init-")
	if err != nil {
		panic(err)
	}
	initDir = dir
	cmd := exec.Command("go", "build", "-o", dir+"/init", "github.com/slipway-ci/slipway/cmd/slipway-init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("cannot build slipway-init: %v\n%s", err, out))
	}
	return dir + "/init"
})

// fleet is a cluster and agent of one test.
func fleet() docker.Config {
	return docker.Config{Init: buildInit(), Cluster: "test-" + strings.ToLower(rand.Text()), Agent: ci.AgentID("test-" + strings.ToLower(rand.Text()))}
}

func open(t testing.TB, cfg docker.Config) *docker.Runtime {
	t.Helper()
	runtimetest.NeedImage(t) // before the cleanup, which would fail after a skip
	r, err := docker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return r
}

func TestConformance(t *testing.T) {
	t.Parallel()
	conformance(t, fleet())
}

// An agent whose build carries no init works too.
func TestConformanceWithoutInit(t *testing.T) {
	t.Parallel()
	cfg := fleet()
	cfg.Init = ""
	conformance(t, cfg)
}

func conformance(t *testing.T, cfg docker.Config) {
	runtimetest.NeedImage(t)
	// It closes last, so it is the one that deletes the network.
	first := open(t, cfg)
	info, err := first.Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("engine %s, API %s", info.Version, info.API)
	// It keeps the network in use: each test closes its runtimes, and an agent that
	// goes takes an idle network away, while others of the suite start steps on it.
	start(t, first, runtime.Spec{Image: runtimetest.Image, Command: []string{"sleep", "3600"}})
	runtimetest.Run(t, runtimetest.Harness{
		New: func(t *testing.T) func() runtime.Runtime {
			return func() runtime.Runtime { return open(t, cfg) }
		},
		Image:     runtimetest.Image,
		ExtraEnv:  []string{"PATH", "HOME", "HOSTNAME"},
		LossyUTF8: true,
		Limits:    []string{"memory", "pids"},
	})
}
