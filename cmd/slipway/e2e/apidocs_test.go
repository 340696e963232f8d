//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/shared/needs"
)

// TestE2EAPIDocument runs every example of docs/api.md, in its order and in one
// shell, against a real fleet.
func TestE2EAPIDocument(t *testing.T) {
	t.Parallel()
	needs.Program(t, "curl")
	text, err := os.ReadFile("../../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	examples, inside := 0, false
	for line := range strings.Lines(string(text)) {
		switch strings.TrimRight(line, "\n") {
		case "```sh":
			inside = true
			examples++
		case "```":
			inside = false
		default:
			if inside {
				script.WriteString(line)
			}
		}
	}
	if examples < 10 {
		t.Fatalf("only %d examples found", examples)
	}
	f := startFleet(t, noDocker())
	cmd := exec.Command("sh", "-eu", "-c", script.String())
	cmd.Dir = t.TempDir()
	cmd.Env = f.environ("URL="+f.URL, "TOKEN="+f.token, "no_proxy=*")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("the examples do not do what docs/api.md says: %v\n%s", err, out.String())
	}
	t.Logf("%d examples", examples)
	// What the examples did is there for everybody else.
	runs := strings.Fields(f.must("runs", "ls", "-o", "name").stdout)
	if len(runs) < 3 {
		t.Errorf("the examples left the runs %v", runs)
	}
	var actions []string
	for _, e := range f.audit() {
		actions = append(actions, e.Action)
	}
	all := strings.Join(actions, " ")
	for _, want := range []string{"run.create", "run.retry", "step.skip", "run.cancel"} {
		if !strings.Contains(all, want) {
			t.Errorf("the audit has no %s: %s", want, all)
		}
	}
	f.nothingLeft()
}

// TestE2EVerbs: each verb that docs/cli.md names is one of the program.
func TestE2EVerbs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, home: t.TempDir()}
	if f.bin, err = binary(); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, part := range strings.Split(string(text), "`") {
		rest, ok := strings.CutPrefix(part, "slipway ")
		if !ok {
			continue
		}
		var verb []string
		for _, word := range strings.Fields(rest) {
			if strings.Trim(word, "abcdefghijklmnopqrstuvwxyz") != "" {
				break
			}
			verb = append(verb, word)
		}
		if len(verb) == 0 {
			continue
		}
		found++
		res := f.do(append(verb, "--help")...)
		if res.code != 0 || !strings.Contains(res.stdout, "slipway "+strings.Join(verb, " ")) {
			t.Errorf("docs/cli.md names `slipway %s`: %s", strings.Join(verb, " "), res)
		}
	}
	if found < 25 {
		t.Errorf("only %d verbs found", found)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if res := f.do("completion", shell); res.code != 0 || len(res.stdout) < 500 {
			t.Errorf("completion %s: %.300s", shell, res.String())
		}
	}
}
