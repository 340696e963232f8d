//go:build e2e

package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/needs"
)

const floodLines = 50_000

// TestE2ELogs holds what is read of a log to what the step wrote.
func TestE2ELogs(t *testing.T) {
	t.Parallel()
	needs.Image(t, busybox)
	f := startFleet(t)
	for _, executor := range []string{"process", "docker"} {
		t.Run("a burst in a "+executor, func(t *testing.T) {
			yaml := "timeout: 3m\nsteps:\n" + strings.TrimSuffix(inside(t, executor, "flood", "flood", fmt.Sprint(floodLines)), " }\n") + ", outputs: [sha256] }\n"
			begin := time.Now()
			r := f.passes(yaml)
			took := time.Since(begin)
			text := f.rawLog(r.ID + "/flood")
			sum := sha256.Sum256([]byte(text))
			s := r.step(t, "flood")
			got, wrote, manifest := hex.EncodeToString(sum[:]), s.Outputs["sha256"], s.last(t).Log
			if got != wrote || manifest.SHA256 != wrote || strings.Count(text, "\n") != floodLines || manifest.Truncated {
				t.Errorf("the step wrote %s; read are %d lines, %s; the manifest says %+v", wrote, strings.Count(text, "\n"), got, manifest)
			}
			t.Logf("%d lines, %d bytes in %d chunks; the whole run took %s", floodLines, len(text), manifest.Chunks, took.Round(time.Millisecond))

			tail := f.must("logs", r.ID+"/flood", "--tail", "3").stdout
			if want := text[strings.Index(text, fmt.Sprintf("line %06d ", floodLines-3)):]; tail != want {
				t.Errorf("--tail 3 gives\n%swant\n%s", tail, want)
			}
			stamped := strings.SplitAfter(f.must("logs", r.ID+"/flood", "--timestamps", "--tail", "100").stdout, "\n")
			line := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z line \d{6} x*\n$`)
			for i, l := range stamped[:len(stamped)-1] {
				if !line.MatchString(l) || i > 0 && l[:26] < stamped[i-1][:26] {
					t.Errorf("--timestamps: %q behind %q", l, stamped[max(0, i-1)])
					break
				}
			}
		})
		t.Run("odd bytes in a "+executor, func(t *testing.T) { oddBytes(t, f, executor) })
		t.Run("live in a "+executor, func(t *testing.T) { live(t, f, executor) })
	}
	t.Run("a line of 4 MiB", func(t *testing.T) {
		r := f.passes(`
timeout: 2m
steps:
  - id: long
    executor: process
    checkout: false
    run: |
      head -c 4194304 /dev/zero | tr '\0' x
      echo
      echo short
`)
		text := f.rawLog(r.ID + "/long")
		if want := strings.Repeat("x", 4<<20) + "\nshort\n"; text != want {
			t.Errorf("read are %d bytes, want %d", len(text), len(want))
		}
	})
	f.nothingLeft()
}

// oddBytes writes what is no clean line of text.
func oddBytes(t *testing.T, f *fleet, executor string) {
	where := "executor: process"
	if executor == "docker" {
		where = "image: " + busybox + ", pull: never"
	}
	r := f.passes(fmt.Sprintf(`
timeout: 2m
steps:
  - { id: odd, needs: [], checkout: false, %[1]s, run: "printf '\\033[31mred\\033[0m\\nnul \\000 here\\n\\377\\376 no utf-8\\r\\n\\n  spaces  \\nno newline at the end'" }
  - { id: both, needs: [], checkout: false, %[1]s, run: "echo one; echo two >&2; echo three" }
  - { id: silent, needs: [], checkout: false, %[1]s, run: ":" }
`, where))
	want := "\x1b[31mred\x1b[0m\nnul \x00 here\n\xff\xfe no utf-8\r\n\n  spaces  \nno newline at the end"
	if executor == "docker" {
		// Docker keeps logs as JSON, which has no place for such bytes.
		want = strings.Replace(want, "\xff\xfe", "\uFFFD\uFFFD", 1)
	}
	if got := f.rawLog(r.ID + "/odd"); got != want {
		t.Errorf("%s: read is %q, written was %q", executor, got, want)
	}
	log := f.must("logs", r.ID+"/both", "-o", "jsonl").stdout
	for _, line := range []string{`"stdout"`, `"stderr"`, `"b25l"`, `"dHdv"`, `"dGhyZWU="`} { // one, two, three
		if !strings.Contains(log, line) {
			t.Errorf("%s: no %s in\n%s", executor, line, log)
		}
	}
	if strings.Count(log, `"stderr"`) != 1 || strings.Count(log, `"stdout"`) != 2 {
		t.Errorf("%s: streams of\n%s", executor, log)
	}
	if text := f.rawLog(r.ID + "/silent"); text != "" {
		t.Errorf("%s: a silent step says %q", executor, text)
	}
}

// live follows a step that prints a line and waits until it was seen.
func live(t *testing.T, f *fleet, executor string) {
	where := "executor: process"
	if executor == "docker" {
		where = "image: " + busybox + ", pull: never"
	}
	name := "live-" + executor
	r := f.submit(fmt.Sprintf(`
name: %s
timeout: 3m
steps:
  - id: talk
    checkout: false
    %s
    run: |
      echo "first"
      until [ -e go ]; do sleep 0.1; done
      echo "last"
`, name, strings.ReplaceAll(where, ", ", "\n    ")))
	for _, args := range [][]string{{"logs", r.ID + "/talk", "-f"}, {"runs", "watch", r.ID, "--logs"}} {
		cmd := f.command(args...)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		seen := false
		for !seen && lines.Scan() {
			seen = strings.Contains(lines.Text(), "first")
		}
		if state := f.show(r.ID).State; !seen || state != "running" {
			t.Errorf("%v: first line seen %v while the run is %s", args, seen, state)
		}
		if args[0] == "logs" {
			_ = cmd.Process.Kill() // a follower that goes away changes nothing
			_ = cmd.Wait()
			continue
		}
		f.touch("work/default/" + name + "/talk/go")
		seen = false
		for lines.Scan() {
			seen = seen || strings.Contains(lines.Text(), "last")
		}
		if err := cmd.Wait(); err != nil || !seen {
			t.Errorf("%v: %v, last line seen %v", args, err, seen)
		}
	}
	if r = f.wait(r.ID); r.State != "passed" {
		t.Errorf("run %s", r.State)
	}
}
