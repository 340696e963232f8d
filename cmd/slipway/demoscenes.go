package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
	"github.com/slipway-ci/slipway/shared/objectstore"
	"google.golang.org/protobuf/encoding/protojson"
)

// demoPackages are what the demo vets and tests: the core of Slipway, whose
// tests are quick also when nothing is cached. CI tests everything.
const demoPackages = "./shared/ci ./shared/expr/... ./shared/spec ./shared/lifecycle ./shared/logpath" +
	" ./coordinator/state ./coordinator/engine ./coordinator/queue ./coordinator/scheduler"

// params are the parameters of the project's own workflow.
func (d *demo) params(signoff string) []string {
	args := []string{"run", "slipway", "--follow", "--param", "signoff=" + signoff, "--param", "packages=" + demoPackages}
	if !d.docker {
		return append(args, "--param", "executor=process")
	}
	return append(args, "--param", "registry="+d.told.Registry)
}

// cold runs the workflow with nothing cached. Its last gate asks for a word of
// a person, so it ends as failed.
func (d *demo) cold(ctx context.Context) error {
	d.title("The workflow of this repository, on this commit, with nothing cached; nobody has signed it off")
	begun := time.Now()
	code, err := d.code(ctx, d.params("missing")...)
	if err != nil {
		return err
	}
	run, err := d.latest(ctx)
	if err != nil {
		return err
	}
	d.run = run.GetId()
	if code != exitFailed || stepState(run, "signoff") != "failed" || stepState(run, "test") != "passed" {
		return fmt.Errorf("the run was to fail at its step signoff alone (exit code 1); it ended as %s with code %d", run.GetState(), code)
	}
	d.row("run, cold", time.Since(begun), fmt.Sprintf("%s passed, stopped at signoff", countSteps(run, "passed")))
	return nil
}

// skipStep lets a person overrule the gate; the finished run goes on.
func (d *demo) skipStep(ctx context.Context) error {
	d.title("An operator skips the failed step of the finished run: what waited for it runs")
	begun := time.Now()
	if err := d.slipway(ctx, "step", "skip", d.run+"/signoff", "-m", "signed off by word of mouth"); err != nil {
		return err
	}
	if code, err := d.code(ctx, "runs", "watch", d.run, "--logs"); err != nil || code != exitOK {
		return fmt.Errorf("the run was to pass after the skip; it ended with code %d (%w)", code, err)
	}
	d.row("step skipped", time.Since(begun), "the run is passed; nothing else ran again")
	return d.slipway(ctx, "runs", "show", d.run)
}

// fetchArtifact gets the binary that the run built.
func (d *demo) fetchArtifact(ctx context.Context) error {
	d.title("An artifact, fetched and checked")
	begun := time.Now()
	if err := d.slipway(ctx, "artifact", "ls", d.run); err != nil {
		return err
	}
	to := filepath.Join(d.dir, "slipway")
	if err := d.slipway(ctx, "artifact", "get", d.run+"/build", "slipway/out/slipway", "--to", to); err != nil {
		return err
	}
	if err := os.Chmod(to, 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, to, "version").Output()
	if err != nil {
		return fmt.Errorf("the fetched binary does not run: %w", err)
	}
	fmt.Fprintf(d.c.out, "the fetched binary says: %s", out)
	d.row("artifact", time.Since(begun), strings.TrimSpace(string(out)))
	return nil
}

// showStatus reads the status object from the bucket, over the S3 protocol.
func (d *demo) showStatus(ctx context.Context) error {
	d.title("The same truth in S3: the status object at the step's LOG_PATH")
	run, err := d.latest(ctx)
	if err != nil {
		return err
	}
	step, err := findStep(run, "build")
	if err != nil {
		return err
	}
	place := step.GetAttempts()[0].GetLogPath()
	secrets := devData{dir: d.told.DataDir}
	if err := secrets.loadSecrets(); err != nil {
		return err
	}
	bucket, err := objectstore.Open(ctx, objectstore.Config{
		Endpoint: d.told.S3Endpoint, Region: devRegion, Bucket: d.told.Bucket, PathStyle: true,
		AccessKey: secrets.secret.AccessKey, SecretKey: secrets.secret.SecretKey,
	})
	if err != nil {
		return err
	}
	key := strings.TrimPrefix(place, "s3://"+d.told.Bucket+"/") + "/status.json"
	body, err := bucket.Get(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var status map[string]any
	if err := json.Unmarshal(raw, &status); err != nil {
		return fmt.Errorf("the status object is no JSON: %w", err)
	}
	pretty, err := json.MarshalIndent(status, "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(d.c.out, "%s/status.json\n%s\n", place, pretty)
	d.row("status in S3", 0, fmt.Sprintf("state %v, %d artifacts", status["state"], len(step.GetAttempts()[0].GetArtifacts())))
	return nil
}

// retryStep runs one step of the finished run again, alone.
func (d *demo) retryStep(ctx context.Context) error {
	d.title("One step of the finished run again, alone, with another parameter")
	before, err := d.latest(ctx)
	if err != nil {
		return err
	}
	begun := time.Now()
	code, err := d.code(ctx, "step", "retry", d.run+"/vet", "--param", "packages=./shared/ci", "--follow")
	if err != nil || code != exitOK {
		return fmt.Errorf("the step was to pass again; it ended with code %d (%w)", code, err)
	}
	after, err := d.latest(ctx)
	if err != nil {
		return err
	}
	for i, s := range after.GetSteps() {
		grown := len(s.GetAttempts()) - len(before.GetSteps()[i].GetAttempts())
		if want := s.GetId() == "vet"; (want && grown != 1) || (!want && grown != 0 && !s.GetFinally()) {
			return fmt.Errorf("retrying vet started %d attempts of %s", grown, s.GetId())
		}
	}
	d.row("step retried", time.Since(begun), "vet alone, second attempt")
	return nil
}

// warm runs the workflow again with the caches that the first run left.
func (d *demo) warm(ctx context.Context) error {
	d.title("The same workflow again, signed off, with warm caches")
	begun := time.Now()
	code, err := d.code(ctx, d.params("given")...)
	if err != nil || code != exitOK {
		return fmt.Errorf("the second run was to pass; it ended with code %d (%w)", code, err)
	}
	warm := time.Since(begun)
	first, err := d.show(ctx, d.run)
	if err != nil {
		return err
	}
	last, err := d.latest(ctx)
	if err != nil {
		return err
	}
	cold, hot := busy(first), busy(last)
	d.row("run, warm", warm, fmt.Sprintf("its steps took %s, %s when cold: %.1f times faster", short(hot), short(cold), cold.Seconds()/max(hot.Seconds(), 0.001)))
	return nil
}

// busy sums up how long the first attempt of each step of both runs took.
func busy(run *pb.Run) time.Duration {
	var sum time.Duration
	for _, s := range run.GetSteps() {
		if as := s.GetAttempts(); len(as) > 0 && as[0].GetStartedAt() != nil && as[0].GetFinishedAt() != nil {
			sum += as[0].GetFinishedAt().AsTime().Sub(as[0].GetStartedAt().AsTime())
		}
	}
	return sum
}

func (d *demo) showAudit(ctx context.Context) error {
	d.title("Who did what")
	return d.slipway(ctx, "audit", "ls")
}

func (d *demo) latest(ctx context.Context) (*pb.Run, error) {
	out, err := d.ask(ctx, "runs", "ls", "--limit", "1", "-o", "name")
	if err != nil {
		return nil, err
	}
	return d.show(ctx, strings.TrimSpace(string(out)))
}

func (d *demo) show(ctx context.Context, id string) (*pb.Run, error) {
	out, err := d.ask(ctx, "runs", "show", id, "-o", "json")
	if err != nil {
		return nil, err
	}
	run := &pb.Run{}
	if err := protojson.Unmarshal(out, run); err != nil {
		return nil, fmt.Errorf("cannot read the run: %w", err)
	}
	return run, nil
}

func stepState(run *pb.Run, id string) string {
	if s, err := findStep(run, id); err == nil {
		return s.GetState()
	}
	return ""
}

func countSteps(run *pb.Run, state string) string {
	n := 0
	for _, s := range run.GetSteps() {
		if s.GetState() == state {
			n++
		}
	}
	return fmt.Sprintf("%d steps", n)
}

// cleanUp stops the fleet and deletes what the demo made: folders, and the
// images that were not there before.
func (d *demo) cleanUp() error {
	var errs []error
	if d.fleet != nil && d.fleet.Process != nil {
		if err := d.fleet.Process.Signal(syscall.SIGINT); err == nil {
			if err := d.fleet.Wait(); err != nil {
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
					errs = append(errs, fmt.Errorf("the fleet did not end well: %w", err))
				}
			}
		}
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, ref := range slices.Sorted(maps.Keys(dockerImages(ctx))) {
		mine := strings.HasPrefix(ref, "slipway-demo/") || (d.told.Registry != "" && strings.HasPrefix(ref, d.told.Registry+"/"))
		if d.docker && mine && !d.images[ref] {
			if out, err := exec.CommandContext(ctx, "docker", "image", "rm", ref).CombinedOutput(); err != nil {
				errs = append(errs, fmt.Errorf("cannot remove the image %s: %s", ref, out))
			}
		}
	}
	return errors.Join(errs...)
}

// dockerImages lists the engine's images by name and by digest; none without an engine.
func dockerImages(ctx context.Context) map[string]bool {
	found := map[string]bool{}
	for _, format := range []string{"{{.Repository}}:{{.Tag}}", "{{.Repository}}@{{.Digest}}"} {
		out, err := exec.CommandContext(ctx, "docker", "image", "ls", "--digests", "--format", format).Output()
		if err != nil {
			return found
		}
		for ref := range strings.FieldsSeq(string(out)) {
			if !strings.Contains(ref, "<none>") {
				found[ref] = true
			}
		}
	}
	return found
}
