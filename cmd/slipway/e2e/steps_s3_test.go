//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/needs"
)

// inside is a step that runs the probe, in a container or as a process.
func inside(t testing.TB, executor, id string, words ...string) string {
	t.Helper()
	where, program := "executor: process", probe(t)
	if executor == "docker" {
		where, program = "image: "+image(t)+", pull: never", "/probe"
	}
	words = append([]string{program}, words...)
	command, err := json.Marshal(words)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("  - { id: %s, needs: [], checkout: false, %s, command: %s }\n", id, where, command)
}

// s3cmdScript is what somebody types who only knows s3cmd and LOG_PATH.
const s3cmdScript = `
steps:
  - id: s3cmd
    executor: process
    run: |
      host=${AWS_ENDPOINT_URL_S3#http://}
      s3() { s3cmd -c /dev/null --host="$host" --host-bucket="$host" --no-ssl --region="$AWS_REGION" "$@"; }
      refused() {
        if out=$(s3 "$@" 2>&1); then echo "NOT REFUSED: $*"; exit 1; fi
        case $out in *AccessDenied*|*"403"*) echo "refused: $1" ;; *) echo "refused otherwise: $* $out"; exit 1 ;; esac
      }
      echo "a note" > note.txt
      s3 put note.txt "$LOG_PATH/mine/note.txt"
      s3 get "$LOG_PATH/mine/note.txt" back.txt
      cmp note.txt back.txt
      s3 ls "$LOG_PATH/mine/" | grep note.txt
      s3 ls --recursive "$LOG_PATH/" | grep mine/note.txt
      refused put note.txt "${LOG_PATH%/*}/note.txt"
      refused put note.txt "${LOG_PATH}0/note.txt"
      refused put note.txt "$LOG_PATH/status.json"
      refused get "${LOG_PATH%/*}/other.txt" x.txt
      refused ls "${LOG_PATH%/*}/"
      refused del "$LOG_PATH/status.json"
      AWS_SECRET_ACCESS_KEY=wrong
      if out=$(s3 put note.txt "$LOG_PATH/mine/wrong.txt" 2>&1); then echo "A WRONG SECRET DOES"; exit 1; fi
      case $out in *SignatureDoesNotMatch*|*403*) echo "refused: wrong secret" ;; *) echo "$out"; exit 1 ;; esac
`

// TestE2EStepS3 uses S3 from inside steps: an unmodified s3cmd, and the AWS SDK.
func TestE2EStepS3(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	t.Run("s3cmd", func(t *testing.T) {
		needs.Program(t, "s3cmd")
		r := f.passes("timeout: 2m\n" + s3cmdScript)
		a := r.step(t, "s3cmd").last(t)
		if text, _ := f.object(logPath(t, a).Key("mine/note.txt")); string(text) != "a note\n" {
			t.Errorf("note.txt in the bucket: %q", text)
		}
		statusOf(t, f, a)
	})
	for _, executor := range []string{"process", "docker"} {
		t.Run("the SDK in a "+executor, func(t *testing.T) {
			r := f.passes("timeout: 2m\nsteps:\n" + inside(t, executor, "sdk", "s3"))
			log := f.rawLog(r.ID + "/sdk")
			if strings.Contains(log, "NOT REFUSED") || strings.Count(log, ": refused") != 9 || !strings.Contains(log, "inside: put, get, list, delete") {
				t.Errorf("log\n%s", log)
			}
			a := r.step(t, "sdk").last(t)
			statusOf(t, f, a)
			if _, there := f.object(logPath(t, a).Key("mine/wrong.txt")); there {
				t.Error("a wrong secret has written")
			}
		})
		t.Run("the step API in a "+executor, func(t *testing.T) {
			r := f.passes("timeout: 2m\nsteps:\n" + inside(t, executor, "api", "api"))
			log := f.rawLog(r.ID + "/api")
			var step struct {
				Run, Step, Attempt string
				LogPath            string `json:"log_path"`
			}
			_, body, ok := strings.Cut(log, "status 200\n")
			if !ok || !strings.Contains(log, "wrong token: 401") || json.Unmarshal([]byte(strings.TrimSpace(body)), &step) != nil {
				t.Fatalf("log\n%s", log)
			}
			a := r.step(t, "api").last(t)
			if step.Run != r.ID || step.Step != "api" || step.Attempt != a.ID || step.LogPath != a.LogPath {
				t.Errorf("the step API says %+v of attempt %+v", step, a)
			}
		})
	}
	t.Run("none where the step wants none", func(t *testing.T) {
		r := f.passes(`
timeout: 1m
steps:
  - { id: bare, executor: process, s3: false, run: "env" }
`)
		if log := f.rawLog(r.ID + "/bare"); strings.Contains(log, "AWS_") || !strings.Contains(log, "LOG_PATH=s3://") {
			t.Errorf("log\n%s", log)
		}
	})
	f.nothingLeft()
}

// statusOf reads status.json, which must say that the attempt succeeded.
func statusOf(t testing.TB, f *fleet, a *attemptJSON) logpath.Status {
	t.Helper()
	var status logpath.Status
	raw, _ := f.object(logPath(t, a).Status())
	if err := json.Unmarshal(raw, &status); err != nil || status.State != a.State || string(status.Attempt) != a.ID {
		t.Errorf("status.json of attempt %+v: %s (%v)", a, raw, err)
	}
	return status
}
