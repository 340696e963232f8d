//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/shared/needs"
)

// TestE2EUnprivilegedImage: an image whose user is not root finds everything
// that a step may write to open to it, and it all goes away again.
func TestE2EUnprivilegedImage(t *testing.T) {
	t.Parallel()
	needs.Image(t, busybox)
	name := fmt.Sprintf("slipway-e2e/user:%d", os.Getpid())
	script := `id=$(docker create "$1"); trap 'docker rm "$id" > /dev/null' EXIT; docker export "$id" | docker import --change 'USER user' --change 'ENV PATH=/bin:/usr/bin' - "$2"`
	if out, err := exec.Command("sh", "-ec", script, "sh", busybox, name).CombinedOutput(); err != nil {
		t.Fatalf("cannot make the image %s: %v\n%s", name, err, out)
	}
	t.Cleanup(func() { docker(t, "image", "rm", name) })
	f := startFleet(t)
	repo := f.newRepo(map[string]string{"dir/tracked.txt": "tracked\n", ".slipway/user.yaml": fmt.Sprintf(`
name: user
timeout: 2m
steps:
  - id: work
    image: %q
    pull: never
    run: |
      id -u
      echo changed >> dir/tracked.txt
      mkdir made && echo x > made/file && chmod 500 made
      echo x >> .cache/one/runs; wc -l < .cache/one/runs
      echo x >> /cache/two/runs; wc -l < /cache/two/runs
      echo "done=yes" >> "$SLIPWAY_REPORT_DIR/outputs"
      test -S "${SLIPWAY_URL#unix://}" && test -w "${SLIPWAY_URL#unix://}"
    outputs: { done: done }
    cache:
      - { path: .cache/one, key: one }
      - { path: /cache/two, key: two }
    artifacts: [{ paths: ["made/**", "dir/tracked.txt"] }]
`, name)})
	for n := 1; n <= 2; n++ {
		var r *runJSON
		f.in(repo.dir, "run", "-o", "json").decode(t, &r)
		r = f.wait(r.ID)
		log := strings.Fields(f.rawLog(r.ID + "/work"))
		if count := fmt.Sprint(n); r.State != "passed" || r.Steps[0].Outputs["done"] != "yes" || len(log) != 3 || log[0] != "1000" || log[1] != count || log[2] != count {
			t.Fatalf("run %d %s\n%s", n, r.State, f.allLogs(r))
		}
		if len(r.Steps[0].last(t).Artifacts) != 2 {
			t.Errorf("artifacts %+v", r.Steps[0].last(t).Artifacts)
		}
	}
	f.nothingLeft()
}
