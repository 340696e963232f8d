package engine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTraces plays the scripts of testdata. A script is a workflow file, a line
// of dashes, and commands after "> ", each followed by what comes of it: the
// ops that the engine wants, in its order, and then the states that changed.
// SLIPWAY_GOLDEN=1 writes what comes of them into the scripts.
//
//	create [k=v] [skip=a,b] [only=a,b]   submit the workflow
//	assign|accept|start STEP             bring its attempt there (start: all three)
//	exit STEP CODE [key=value...]        its process ends, the upload goes on
//	final STEP                           the upload is done as well
//	done STEP CODE [key=value...]        exit and final
//	report STEP OUTCOME [REASON]         a final report of another end
//	lose STEP                            its agent is given up
//	wait DURATION                        time passes; only deadlines wake the engine
//	cancel [hard] | retry failed|from S|steps S,S [p=v] [env.E=v]
//	skip STEP | cancelstep STEP          what people do
//	show [STEP]                          print attempts, or the run
func TestTraces(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(script))
			if os.Getenv("SLIPWAY_GOLDEN") == "1" {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(script), got); diff != "" {
				t.Errorf("%s (-script +now):\n%s", file, diff)
			}
		})
	}
}

// play returns the script with the outcome of each command filled in.
func play(t *testing.T, script string) string {
	yaml, rest, ok := strings.Cut(script, "\n----\n")
	if !ok {
		t.Fatal("no line of dashes")
	}
	s := newStage(t, yaml)
	var out bytes.Buffer
	out.WriteString(yaml + "\n----\n")
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "> "):
			fmt.Fprintln(&out, line)
			out.WriteString(s.do(strings.Fields(line[2:])))
		case line == "" || strings.HasPrefix(line, "#"):
			fmt.Fprintln(&out, line)
		}
	}
	return out.String()
}
