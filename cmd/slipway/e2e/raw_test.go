//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/shared/needs"
)

// demoImage has a docker client; deploy/demo-image.sh makes it.
const demoImage = "slipway-demo/go:latest"

// TestE2EDockerRaw: a step with the engine's socket runs a sibling container
// that sees the step's workspace at the step's own path.
func TestE2EDockerRaw(t *testing.T) {
	t.Parallel()
	needs.Image(t, busybox)
	needs.Image(t, demoImage)
	f := startFleet(t)
	r := f.passes(fmt.Sprintf(`
timeout: 3m
defaults: { image: %q, pull: never }
steps:
  - id: sibling
    docker: raw
    run: |
      echo "from the step" > note.txt
      docker run --rm --label "io.slipway.attempt=$SLIPWAY_ATTEMPT_ID" -v "$SLIPWAY_WORKSPACE:$SLIPWAY_WORKSPACE" -w "$SLIPWAY_WORKSPACE" %s \
        sh -c 'cat note.txt; echo "from the sibling" > answer.txt'
      cat answer.txt
      docker inspect --format '{{index .Config.Labels "io.slipway.run"}}' "$(hostname)"
  - id: without
    run: |
      if [ -e /var/run/docker.sock ]; then echo "the socket is there"; exit 1; fi
`, demoImage, busybox))
	want := "from the step\nfrom the sibling\n" + r.ID + "\n"
	if log := f.rawLog(r.ID + "/sibling"); log != want {
		t.Errorf("log\n%swant\n%s", log, want)
	}
	f.nothingLeft()
}

// TestE2EImages: digests are recorded, and images that cannot be had end a step
// with a word that helps.
func TestE2EImages(t *testing.T) {
	t.Parallel()
	needs.Image(t, busybox)
	f := startFleet(t)
	ref := f.Registry + "/e2e/busybox"
	docker(t, "tag", busybox, ref+":one")
	t.Cleanup(func() { docker(t, "image", "rm", ref+":one") })
	docker(t, "push", "-q", ref+":one")
	digest := docker(t, "image", "inspect", "-f", "{{range .RepoDigests}}{{println .}}{{end}}", ref+":one")
	for line := range strings.Lines(digest) {
		if d, ok := strings.CutPrefix(strings.TrimSpace(line), ref+"@"); ok {
			digest = d
		}
	}
	steps := func(list string) string {
		return "timeout: 3m\nsteps:\n" + list
	}
	t.Run("from a registry", func(t *testing.T) {
		r := f.passes(steps(fmt.Sprintf(`
  - { id: tag, image: "%[1]s:one", pull: always, run: echo by tag }
  - { id: digest, image: "%[1]s@%[2]s", run: echo by digest }
`, ref, digest)))
		for _, s := range r.Steps {
			a := s.last(t)
			if a.ImageDigest != ref+"@"+digest || statusOf(t, f, a).ImageDigest != a.ImageDigest {
				t.Errorf("%s: image digest %q, want that of %s", s.ID, a.ImageDigest, digest)
			}
		}
	})
	t.Run("not in the registry", func(t *testing.T) {
		r := f.run(steps(fmt.Sprintf(`
  - { id: none, image: "%s:none", run: echo never, retry: [{ on: [image_pull], limit: 1, backoff: 1s }] }
`, ref)))
		badImage(t, f, r, ref+":none")
	})
	t.Run("no such registry", func(t *testing.T) {
		r := f.run(steps(`
  - { id: none, image: "127.0.0.1:9/e2e/none:1", run: echo never, retry: [] }
`))
		badImage(t, f, r, "127.0.0.1:9/e2e/none:1")
	})
	t.Run("never pulled", func(t *testing.T) {
		r := f.run(steps(fmt.Sprintf(`
  - { id: none, image: "%s:absent", pull: never, run: echo never, retry: [] }
`, ref)))
		badImage(t, f, r, "pull")
	})
	f.nothingLeft()
}

// badImage checks a run whose one step had no image.
func badImage(t *testing.T, f *fleet, r *runJSON, says string) {
	t.Helper()
	s := r.step(t, "none")
	if r.State != "failed" || r.ExitCode != 9 || s.State != "failed" || s.Reason != "image_pull" || !strings.Contains(s.Message, says) {
		t.Errorf("run %s (exit code %d), step %s (%s: %s)", r.State, r.ExitCode, s.State, s.Reason, s.Message)
	}
	log := f.do("logs", r.ID+"/none").stdout
	t.Logf("%d attempts; the step says: %s\nthe log says: %s", len(s.Attempts), s.Message, log)
	for _, a := range s.Attempts {
		if a.State != "rejected" || a.ExitCode != nil {
			t.Errorf("attempt %+v", a)
		}
	}
}
