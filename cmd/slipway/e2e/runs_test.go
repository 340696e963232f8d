//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

// The JSON of the command line, as far as tests look at it.
type (
	runJSON struct {
		ID         string            `json:"id"`
		Workflow   string            `json:"workflow"`
		State      string            `json:"state"`
		Reason     string            `json:"reason"`
		Message    string            `json:"message"`
		Repo       string            `json:"repo"`
		SHA        string            `json:"sha"`
		Ref        string            `json:"ref"`
		Branch     string            `json:"branch"`
		Dirty      bool              `json:"dirty"`
		Params     map[string]string `json:"params"`
		ExitCode   int               `json:"exit_code"`
		Final      bool              `json:"final"`
		Round      int               `json:"round"`
		CreatedAt  *time.Time        `json:"created_at"`
		FinishedAt *time.Time        `json:"finished_at"`
		Steps      []stepJSON        `json:"steps"`
	}
	stepJSON struct {
		ID         string            `json:"id"`
		Name       string            `json:"name"`
		State      string            `json:"state"`
		Reason     string            `json:"reason"`
		Message    string            `json:"message"`
		WaitReason *waitJSON         `json:"wait_reason"`
		Generation int               `json:"generation"`
		Outputs    map[string]string `json:"outputs"`
		Attempts   []attemptJSON     `json:"attempts"`
		SkippedBy  string            `json:"skipped_by"`
		Progress   float64           `json:"progress"`
		Note       string            `json:"note"`
	}
	waitJSON struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  string `json:"detail"`
	}
	attemptJSON struct {
		ID          string         `json:"id"`
		Number      int            `json:"number"`
		Generation  int            `json:"generation"`
		State       string         `json:"state"`
		Reason      string         `json:"reason"`
		Message     string         `json:"message"`
		ExitCode    *int           `json:"exit_code"`
		Agent       string         `json:"agent"`
		ImageDigest string         `json:"image_digest"`
		LogPath     string         `json:"log_path"`
		QueuedAt    *time.Time     `json:"queued_at"`
		StartedAt   *time.Time     `json:"started_at"`
		FinishedAt  *time.Time     `json:"finished_at"`
		Log         *manifestJSON  `json:"log"`
		Artifacts   []artifactJSON `json:"artifacts"`
		Fence       float64        `json:"fence"`
	}
	manifestJSON struct {
		Lines     float64 `json:"lines"`
		Bytes     float64 `json:"bytes"`
		Chunks    int     `json:"chunks"`
		SHA256    string  `json:"sha256"`
		Truncated bool    `json:"truncated"`
	}
	artifactJSON struct {
		Path   string  `json:"path"`
		Size   float64 `json:"size"`
		SHA256 string  `json:"sha256"`
	}
)

// step returns the step with the id.
func (r *runJSON) step(t testing.TB, id string) *stepJSON {
	t.Helper()
	for i := range r.Steps {
		if r.Steps[i].ID == id {
			return &r.Steps[i]
		}
	}
	t.Fatalf("run %s has no step %q: %+v", r.ID, id, r.Steps)
	return nil
}

// last returns the step's newest attempt.
func (s *stepJSON) last(t testing.TB) *attemptJSON {
	t.Helper()
	if len(s.Attempts) == 0 {
		t.Fatalf("step %s has no attempt: %+v", s.ID, s)
	}
	return &s.Attempts[len(s.Attempts)-1]
}

// workflow writes a workflow file and returns its path. Its first line may
// name it: "name: x".
func (f *fleet) workflow(yaml string) string {
	f.t.Helper()
	dir, err := os.MkdirTemp(f.home, "wf")
	if err != nil {
		f.t.Fatal(err)
	}
	file := filepath.Join(dir, "test.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o644); err != nil {
		f.t.Fatal(err)
	}
	return file
}

// submit starts a run of a workflow's text; flags are those of `slipway run`.
func (f *fleet) submit(yaml string, flags ...string) *runJSON {
	f.t.Helper()
	var r runJSON
	f.must(append([]string{"run", "-f", f.workflow(yaml), "-o", "json"}, flags...)...).decode(f.t, &r)
	return &r
}

// run submits a workflow and waits until the run is final.
func (f *fleet) run(yaml string, flags ...string) *runJSON {
	f.t.Helper()
	return f.wait(f.submit(yaml, flags...).ID)
}

// show reads a run.
func (f *fleet) show(id string) *runJSON {
	f.t.Helper()
	var r runJSON
	f.must("runs", "show", id, "-o", "json").decode(f.t, &r)
	return &r
}

// wait waits until the run is final, with all that belongs to it in S3, and
// holds the exit code of its follower to the run's own.
func (f *fleet) wait(id string) *runJSON {
	f.t.Helper()
	cmd := f.command("runs", "watch", id, "-o", "json", "--timeout", "3m")
	res := f.finish(cmd)
	r := f.show(id)
	if !r.Final || res.code != r.ExitCode {
		f.t.Fatalf("run %s is %s (final %v, exit code %d) after\n%s\n%s", id, r.State, r.Final, r.ExitCode, res, f.devLog())
	}
	return r
}

// passes is run that must pass.
func (f *fleet) passes(yaml string, flags ...string) *runJSON {
	f.t.Helper()
	r := f.run(yaml, flags...)
	if r.State != "passed" || r.ExitCode != 0 {
		f.t.Fatalf("run %s %s (%s: %s)\n%s%s", r.ID, r.State, r.Reason, r.Message, f.allLogs(r), f.devLog())
	}
	return r
}

// awaitStep waits until the step is in one of the states.
func (f *fleet) awaitStep(run, step string, states ...string) *stepJSON {
	f.t.Helper()
	var s *stepJSON
	f.eventually(fmt.Sprintf("step %s is %v", step, states), func() bool {
		s = f.show(run).step(f.t, step)
		for _, state := range states {
			if s.State == state {
				return true
			}
		}
		return false
	})
	return s
}

// rawLog is the log's bytes as the step wrote them. ref is RUN/STEP[#N].
func (f *fleet) rawLog(ref string) string {
	f.t.Helper()
	return f.must("logs", ref, "--raw").stdout
}

// allLogs is every step's log, for failures.
func (f *fleet) allLogs(r *runJSON) string {
	var b strings.Builder
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "--- step %s: %s %s %s\n", s.ID, s.State, s.Reason, s.Message)
		if len(s.Attempts) > 0 {
			b.WriteString(f.do("logs", r.ID+"/"+s.ID).stdout)
		}
	}
	return b.String()
}

// awaitLog waits until the step's log holds a text.
func (f *fleet) awaitLog(ref, text string) {
	f.t.Helper()
	f.eventually("the log of "+ref+" says "+text, func() bool {
		return strings.Contains(f.do("logs", ref).stdout, text)
	})
}

// object reads an object of the fleet's bucket; false when there is none.
func (f *fleet) object(key string) ([]byte, bool) {
	f.t.Helper()
	body, err := f.store().Get(f.t.Context(), key, 0, -1)
	if ci.KindOf(err) == ci.NotFound {
		return nil, false
	}
	if err != nil {
		f.t.Fatalf("object %s: %v", key, err)
	}
	raw, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		f.t.Fatalf("object %s: %v", key, err)
	}
	return raw, true
}

// logPath parses an attempt's LOG_PATH.
func logPath(t testing.TB, a *attemptJSON) logpath.Path {
	t.Helper()
	p, err := logpath.Parse(a.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// repo is a git repository with commits of a test.
type repo struct {
	f   *fleet
	dir string
}

// newRepo makes a repository and its first commit.
func (f *fleet) newRepo(files map[string]string) *repo {
	f.t.Helper()
	dir, err := os.MkdirTemp(f.home, "repo")
	if err != nil {
		f.t.Fatal(err)
	}
	r := &repo{f, dir}
	r.git("init", "-q", "-b", "main")
	r.commit(files)
	return r
}

// git runs git in the repository and returns what it says.
func (r *repo) git(args ...string) string {
	r.f.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = r.dir, r.f.environ()
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.f.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// write puts files into the work tree.
func (r *repo) write(files map[string]string) {
	r.f.t.Helper()
	for name, text := range files {
		path := filepath.Join(r.dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o755)
		}
		if err != nil {
			r.f.t.Fatal(err)
		}
	}
}

// commit commits files and returns the commit's id.
func (r *repo) commit(files map[string]string) string {
	r.f.t.Helper()
	r.write(files)
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", "a commit")
	return r.git("rev-parse", "HEAD")
}

// touch makes a file below the agent's folder, for a step that waits for it.
func (f *fleet) touch(name string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.DataDir, "agent", name), nil, 0o644); err != nil {
		f.t.Fatal(err)
	}
}
