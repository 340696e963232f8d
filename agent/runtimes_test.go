package agent

import (
	"os"
	"strings"
	"testing"
)

// What is not a slipway-init of this version cannot be pid 1 of a step.
func TestInitThatDoesNotWork(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/init"
	for program, want := range map[string]string{"#!/bin/sh\nexit 2\n": "exit status 2", "no program": "exec format error", "#!/bin/sh\nexit 126\n": ""} {
		if err := os.WriteFile(path, []byte(program), 0o755); err != nil {
			t.Fatal(err)
		}
		err := works(t.Context(), path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", program, err, want)
		}
	}
}
