package coordinator

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/shared/needs"
	"github.com/slipway-ci/slipway/shared/objectstore/s3dev/s3devtest"
)

// blocks returns the fenced sh blocks of a text, each with the line it begins on.
func blocks(text string) (out []string) {
	var block []string
	inside := false
	for i, line := range strings.Split(text, "\n") {
		switch {
		case !inside && line == "```sh":
			inside, block = true, []string{fmt.Sprintf("echo '# docs/api.md:%d'", i+2)}
		case inside && line == "```":
			inside = false
			out = append(out, strings.Join(block, "\n"))
		case inside:
			block = append(block, line)
		}
	}
	return out
}

// docs/api.md is true: its examples run as they stand, in their order.
func TestAPIDocument(t *testing.T) {
	t.Parallel()
	needs.Program(t, "curl")
	text, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	all := blocks(string(text))
	if len(all) < 12 {
		t.Fatalf("only %d examples found", len(all))
	}
	f := newFleet(t, s3devtest.Start(t))
	// A pipe's last command decides, as at a prompt: some examples show errors.
	cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", strings.Join(all, "\n"))
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "URL=http://"+f.known().Listen, "TOKEN="+f.token(), "no_proxy=*", "NO_PROXY=*")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the examples do not do what the document says: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}
