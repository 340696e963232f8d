//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/needs"
)

// walkWorkflow goes through everything that a commit meets on its way.
const walkWorkflow = `
name: walk
timeout: 3m
params:
  executor: { type: choice, options: [docker, process], default: docker }
  probe: { type: string, default: /probe }
  text: { type: string, default: "two words" }
  count: { type: integer, default: 3, min: 1, max: 9 }
  ratio: { type: number, default: 0.5 }
  loud: { type: boolean, default: true }
  suite: { type: choice, options: [smoke, full], default: smoke }
env: { LEVEL: workflow, BOTH: workflow, GREETING: "hello ${{ params.text }} ${{ params.count + 1 }}" }
defaults:
  image: slipway-test/busybox:latest
  executor: "${{ params.executor }}"
  pull: never
steps:
  - id: build
    env: { BOTH: step, PARAM_SUITE: from step, CI: "maybe", SLIPWAY_STEP: forged }
    run: |
      cat content.txt
      mkdir -p out/deep
      env > out/env.txt
      printf 'artifact of %s' "$SLIPWAY_SHA" > out/deep/a.bin
      echo "digest=sha256:abc" >> "$SLIPWAY_REPORT_DIR/outputs"
      printf 'text<<EOF\none\ntwo\nEOF\n' >> "$SLIPWAY_REPORT_DIR/outputs"
      pwd
      ls -a
    outputs: { digest: digest, lines: text }
    artifacts:
      - { name: built, paths: ["out/**"] }
  - id: argv
    checkout: false
    command: [printf, "<%s>\n", "two words", "a  b", "$HOME", "*", ""]
  - id: shell
    checkout: false
    shell: [/bin/sh, -eux]
    run: |
      echo "one"
      false
      echo "never"
    soft_fail: { exit_codes: [1] }
  - id: use
    needs: [build]
    checkout: false
    if: steps.build.outputs.digest startsWith "sha256:"
    env: { BY_TEMPLATE: "${{ steps.build.outputs.digest }}" }
    run: |
      set -x
      test "$STEP_BUILD_DIGEST" = "$BY_TEMPLATE"
      test "$STEP_BUILD_LINES" = "$(printf 'one\ntwo')"
      test -z "$(ls -A)"
`

// TestE2EWalk takes commits from a repository through workflow file, checkout,
// step and log to S3, in containers and as processes.
func TestE2EWalk(t *testing.T) {
	t.Parallel()
	for _, executor := range []string{"docker", "process"} {
		t.Run(executor, func(t *testing.T) {
			t.Parallel()
			if executor == "docker" {
				needs.Image(t, busybox)
			}
			walk(t, executor)
		})
	}
}

func walk(t *testing.T, executor string) {
	f := startFleet(t)
	repo := f.newRepo(map[string]string{
		".slipway/walk.yaml": walkWorkflow, "content.txt": "content one\n", "gone.txt": "x", ".gitignore": "ignored.txt\n",
	})
	first := repo.git("rev-parse", "HEAD")
	second := repo.commit(map[string]string{"content.txt": "content two\n"})
	repo.write(map[string]string{"content.txt": "content three\n", "new.txt": "x", "ignored.txt": "x"})
	if err := os.Remove(filepath.Join(repo.dir, "gone.txt")); err != nil {
		t.Fatal(err)
	}
	for _, try := range []struct {
		name, sha, content string
		flags              []string
	}{
		{"HEAD of a dirty work tree", second, "content two", nil},
		{"an older commit", first, "content one", []string{"--sha", first[:10]}},
		{"the dirty work tree itself", second, "content three", []string{"--local"}},
	} {
		var r *runJSON
		args := append([]string{"run", "walk", "-o", "json", "--param", "executor=" + executor}, try.flags...)
		sub := f.in(repo.dir, args...)
		if sub.code != 0 {
			t.Fatalf("%s: %s", try.name, sub)
		}
		sub.decode(t, &r)
		r = f.wait(r.ID)
		if r.State != "passed" || r.SHA != try.sha {
			t.Fatalf("%s: run %s of %s, want one of %s\n%s", try.name, r.State, r.SHA, try.sha, f.allLogs(r))
		}
		log := f.rawLog(r.ID + "/build")
		if !strings.HasPrefix(log, try.content+"\n") {
			t.Errorf("%s: log\n%s", try.name, log)
		}
		local := try.flags != nil && try.flags[0] == "--local"
		if strings.Contains(log, "new.txt") != local || strings.Contains(log, "gone.txt") == local || strings.Contains(log, "ignored.txt") || r.Dirty != local || (r.Branch == "main") != (try.sha == second) {
			t.Errorf("%s (local %v, dirty %v): the workspace holds\n%s", try.name, local, r.Dirty, log)
		}
		checkSteps(t, f, r, executor)
		for _, s := range r.Steps {
			checkObjects(t, f, r, &s, executor)
		}
		checkEnvironment(t, f, r, executor)
	}
	f.nothingLeft()
}

func checkSteps(t *testing.T, f *fleet, r *runJSON, executor string) {
	t.Helper()
	if got, want := f.rawLog(r.ID+"/argv"), "<two words>\n<a  b>\n<$HOME>\n<*>\n<>\n"; got != want {
		t.Errorf("argv: %q, want %q", got, want)
	}
	s := r.step(t, "shell")
	if log := f.rawLog(r.ID + "/shell"); s.State != "soft_failed" || s.Reason != "exit_code" || !strings.Contains(log, "+ echo one") || strings.Contains(log, "never") {
		t.Errorf("shell: %s (%s)\n%s", s.State, s.Reason, log)
	}
	want := map[string]string{"digest": "sha256:abc", "lines": "one\ntwo"}
	if diff := cmp.Diff(want, r.step(t, "build").Outputs); diff != "" {
		t.Errorf("outputs:\n%s", diff)
	}
	digest := r.step(t, "build").last(t).ImageDigest
	if (executor == "docker") != strings.HasPrefix(digest, "sha256:") {
		t.Errorf("image digest %q under %s", digest, executor)
	}
}

// checkObjects holds what lies in S3 to what the API says.
func checkObjects(t *testing.T, f *fleet, r *runJSON, s *stepJSON, executor string) {
	t.Helper()
	a := s.last(t)
	path := logPath(t, a)
	var status logpath.Status
	raw, ok := f.object(path.Status())
	if !ok || json.Unmarshal(raw, &status) != nil {
		t.Fatalf("status.json of %s: %s", s.ID, raw)
	}
	if string(status.Attempt) != a.ID || float64(status.Fence) != a.Fence || status.State != a.State || string(status.Reason) != a.Reason ||
		status.ExitCode == nil || a.ExitCode == nil || *status.ExitCode != *a.ExitCode || status.StartedAt == nil || status.ImageDigest != a.ImageDigest {
		t.Errorf("step %s: status.json %s\nattempt %+v", s.ID, raw, a)
	}
	var state logpath.State
	if raw, ok = f.object(path.State()); ok && json.Unmarshal(raw, &state) != nil || !ok && executor == "never" {
		t.Errorf("state.json of %s: %s", s.ID, raw)
	}
	var index logpath.Index
	if raw, ok = f.object(path.Index()); !ok || json.Unmarshal(raw, &index) != nil || !index.Complete {
		t.Fatalf("log/index.json of %s: %s", s.ID, raw)
	}
	text := f.rawLog(r.ID + "/" + s.ID)
	sum := sha256.Sum256([]byte(text))
	hash := hex.EncodeToString(sum[:])
	if hash != status.Log.SHA256 || hash != index.SHA256 || hash != a.Log.SHA256 || int64(len(text)) != status.Log.Bytes || status.Log.Truncated {
		t.Errorf("step %s: the log has %d bytes, sha256 %s; status.json says %+v; the index %s", s.ID, len(text), hash, status.Log, index.SHA256)
	}
	for _, c := range index.Chunks {
		if _, ok := f.object(path.Chunk(c.N)); !ok {
			t.Errorf("step %s: chunk %d of the log is missing", s.ID, c.N)
		}
	}
	for _, art := range a.Artifacts {
		raw, ok := f.object(path.Artifact(art.Path))
		sum := sha256.Sum256(raw)
		if !ok || hex.EncodeToString(sum[:]) != art.SHA256 || float64(len(raw)) != art.Size {
			t.Errorf("step %s: artifact %+v has %d bytes, sha256 %x", s.ID, art, len(raw), sum)
		}
	}
	if len(status.Artifacts) != len(a.Artifacts) {
		t.Errorf("step %s: artifacts %+v in status.json, %+v in the run", s.ID, status.Artifacts, a.Artifacts)
	}
}

// checkEnvironment reads the artifact that holds the step's environment.
func checkEnvironment(t *testing.T, f *fleet, r *runJSON, executor string) {
	t.Helper()
	ref := r.ID + "/build"
	got := f.must("artifact", "get", ref, "built/out/deep/a.bin", "--to", "-").stdout
	if got != "artifact of "+r.SHA {
		t.Errorf("the artifact is %q", got)
	}
	env := map[string]string{}
	for line := range strings.Lines(f.must("artifact", "get", ref, "built/out/env.txt", "--to", "-").stdout) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[k] = v
	}
	a := r.step(t, "build").last(t)
	want := map[string]string{
		"CI": "maybe", "SLIPWAY": "true", "LOG_PATH": a.LogPath, "SLIPWAY_TENANT": "default", "SLIPWAY_WORKFLOW": "walk",
		"SLIPWAY_RUN_ID": r.ID, "SLIPWAY_STEP": "build", "SLIPWAY_ATTEMPT": "1", "SLIPWAY_ATTEMPT_ID": a.ID,
		"SLIPWAY_SHA": r.SHA, "SLIPWAY_PR": "", "SLIPWAY_ENVIRONMENT": "", "SLIPWAY_TAG": "",
		"SHARD_INDEX": "0", "SHARD_COUNT": "1",
		"PARAM_TEXT": "two words", "PARAM_COUNT": "3", "PARAM_RATIO": "0.5", "PARAM_LOUD": "true", "PARAM_SUITE": "from step", "PARAM_EXECUTOR": executor,
		"LEVEL": "workflow", "BOTH": "step", "GREETING": "hello two words 4",
	}
	for k, v := range want {
		if got, ok := env[k]; !ok || got != v {
			t.Errorf("%s=%q (there: %v), want %q", k, got, ok, v)
		}
	}
	for _, k := range []string{
		"SLIPWAY_URL", "SLIPWAY_TOKEN", "SLIPWAY_FENCE", "SLIPWAY_REPORT_DIR", "SLIPWAY_WORKSPACE",
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL_S3",
	} {
		if env[k] == "" {
			t.Errorf("%s is empty", k)
		}
	}
	if repo, ok := env["SLIPWAY_REPO"]; !ok || (repo == "") != r.Dirty {
		t.Errorf("SLIPWAY_REPO=%q (there: %v), dirty %v", repo, ok, r.Dirty)
	}
	if env["SLIPWAY_BRANCH"] != r.Branch || env["SLIPWAY_REF"] != r.Ref {
		t.Errorf("branch %q, ref %q; those of the run are %q and %q", env["SLIPWAY_BRANCH"], env["SLIPWAY_REF"], r.Branch, r.Ref)
	}
	if log := f.rawLog(ref); !strings.Contains(log, "\n"+env["SLIPWAY_WORKSPACE"]+"\n") {
		t.Errorf("the step does not start in its workspace %s:\n%s", env["SLIPWAY_WORKSPACE"], log)
	}
}
