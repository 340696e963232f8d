package docker_test

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/runtime/docker"
	"github.com/slipway-ci/slipway/agent/runtime/runtimetest"
	"github.com/slipway-ci/slipway/shared/ci"
)

// BenchmarkStep measures a whole step beside its floor, the four calls that no
// container does without, on the same network, both in turn: only the ratio counts.
func BenchmarkStep(b *testing.B) {
	runtimetest.NeedImage(b)
	cfg := fleet()
	cfg.Network = "slipway-bench-" + random()[:8]
	r := open(b, cfg)
	if _, err := r.Gateway(b.Context()); err != nil {
		b.Fatal(err)
	}
	api, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		b.Fatal(err)
	}
	defer api.Close()
	var step, floor time.Duration
	for range b.N {
		begin := time.Now()
		whole(b, r)
		middle := time.Now()
		bare(b, api, cfg.Network)
		step += middle.Sub(begin)
		floor += time.Since(middle)
	}
	b.ReportMetric(float64(step.Milliseconds())/float64(b.N), "ms/step")
	b.ReportMetric(float64(floor.Milliseconds())/float64(b.N), "ms/floor")
	b.ReportMetric(float64(step)/float64(floor), "ratio")
}

func whole(b *testing.B, r *docker.Runtime) {
	h, err := r.Prepare(b.Context(), runtime.Spec{
		Attempt: ci.AttemptID("bench-" + random()), Image: runtimetest.Image, Pull: ci.PullNever, Dir: b.TempDir(), Script: "echo hi",
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := r.Start(b.Context(), h); err != nil {
		b.Fatal(err)
	}
	var out text
	if err := r.Logs(b.Context(), h, "", &out); err != nil || out.String() != "hi\n" {
		b.Fatal(out.String(), err)
	}
	if _, err := r.Wait(b.Context(), h); err != nil {
		b.Fatal(err)
	}
	if err := r.Remove(b.Context(), h); err != nil {
		b.Fatal(err)
	}
}

func bare(b *testing.B, api *client.Client, network string) {
	c, err := api.ContainerCreate(b.Context(), &container.Config{Image: runtimetest.Image, Cmd: []string{"/bin/sh", "-c", "echo hi"}},
		&container.HostConfig{NetworkMode: container.NetworkMode(network)}, nil, nil, "")
	if err != nil {
		b.Fatal(err)
	}
	if err := api.ContainerStart(b.Context(), c.ID, container.StartOptions{}); err != nil {
		b.Fatal(err)
	}
	done, failed := api.ContainerWait(b.Context(), c.ID, container.WaitConditionNotRunning)
	select {
	case <-done:
	case err := <-failed:
		b.Fatal(err)
	}
	if err := api.ContainerRemove(b.Context(), c.ID, container.RemoveOptions{Force: true}); err != nil {
		b.Fatal(err)
	}
}
