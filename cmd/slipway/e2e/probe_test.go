//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/slipway-ci/slipway/shared/needs"
)

// busybox is the image of steps that want a shell.
const busybox = "slipway-test/busybox:latest"

// probeProgram builds testdata/probe.
var probeProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "slipway-e2e-probe-")
	if err != nil {
		return "", err
	}
	atEnd(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "probe")
	return path, goBuild(path, "./testdata/probe")
})

// probe returns the path of the program probe, for process steps.
func probe(t testing.TB) string {
	t.Helper()
	path, err := probeProgram()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// probeImage is an image FROM scratch with nothing but /probe in it, which its
// entry point runs as the original habit. Only this run of the tests has it.
var probeImage = sync.OnceValues(func() (string, error) {
	path, err := probeProgram()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("slipway-e2e/probe:%d", os.Getpid())
	script := `tar -C "$1" -c probe | docker import --change 'ENTRYPOINT ["/probe"]' --change 'CMD ["habit"]' --change 'WORKDIR /home' - "$2"`
	out, err := exec.Command("sh", "-ec", script, "sh", filepath.Dir(path), name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot make the image %s: %w\n%s", name, err, out)
	}
	atEnd(func() { _ = exec.Command("docker", "image", "rm", "-f", name).Run() })
	return name, nil
})

// image returns the probe's image.
func image(t testing.TB) string {
	t.Helper()
	needs.Image(t, busybox)
	name, err := probeImage()
	if err != nil {
		t.Fatal(err)
	}
	return name
}
