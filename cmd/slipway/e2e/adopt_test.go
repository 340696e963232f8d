//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/shared/needs"
)

// relay is steps that hand a value on, each with a log, an output and an
// artifact; every attempt leaves a mark on the host.
func relay(step string) string {
	b := "timeout: 5m\ndefaults: { " + step + " }\nsteps:\n"
	for _, id := range []string{"a", "b", "c"} {
		b += fmt.Sprintf(`
- id: %[1]s
  run: |
    i=0; while [ $i -lt 40 ]; do echo "%[1]s $i $STEP_A_V"; i=$((i+1)); sleep 0.02; done
    echo "v=of-%[1]s" >> "$SLIPWAY_REPORT_DIR/outputs"
    mkdir -p out; echo "kept by %[1]s" > out/%[1]s.txt
  outputs: [v]
  artifacts: [{ paths: ["out/*"] }]
`, id)
	}
	return b
}

// TestE2EKillsOnTheWalk kills the fleet at many moments of a run, two times of
// three without a warning: the run ends as if nothing had happened.
func TestE2EKillsOnTheWalk(t *testing.T) {
	t.Parallel()
	for executor, step := range map[string]string{
		"process": "executor: process",
		"docker":  `image: "slipway-test/busybox:latest", pull: never`,
	} {
		t.Run(executor, func(t *testing.T) {
			t.Parallel()
			opts := []option{noDocker()}
			if executor == "docker" {
				needs.Image(t, "slipway-test/busybox:latest")
				opts = nil
			}
			f := startFleet(t, opts...)
			r := f.submit(relay(step))
			kills := 0
			// The walk takes about three seconds when nobody disturbs it.
			for !f.show(r.ID).Final && kills < 12 {
				<-time.After(time.Duration(rand.IntN(700)) * time.Millisecond)
				if kills%3 == 1 {
					f.terminate()
				} else {
					f.kill()
				}
				f.restart()
				kills++
			}
			r = f.wait(r.ID)
			t.Logf("%d kills; attempts %s", kills, r.tries())
			r.ends(t, 0, "a=passed b=passed c=passed")
			for _, id := range []string{"a", "b", "c"} {
				value := ""
				if id != "a" {
					value = "of-a"
				}
				var want strings.Builder
				for i := range 40 {
					fmt.Fprintf(&want, "%s %d %s\n", id, i, value)
				}
				if diff := cmp.Diff(want.String(), f.rawLog(r.ID+"/"+id)); diff != "" {
					t.Errorf("log of %s (-want +got):\n%s", id, diff)
				}
				if got := f.must("artifact", "get", r.ID+"/"+id, "out/"+id+".txt", "--to", "-").stdout; got != "kept by "+id+"\n" {
					t.Errorf("artifact of %s: %q", id, got)
				}
				for _, a := range r.step(t, id).Attempts {
					if a.State != "succeeded" && a.Reason != "infra" && a.Reason != "agent_lost" {
						t.Errorf("attempt %d of %s ended %s (%s: %s)", a.Number, id, a.State, a.Reason, a.Message)
					}
				}
			}
			f.nothingLeft()
		})
	}
}
