package docker_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/runtime/runtimetest"
)

// A shell that waits for a program does not make a cancel take the whole grace.
func TestStopSleeping(t *testing.T) {
	t.Parallel()
	r := open(t, fleet())
	for _, s := range []runtime.Spec{
		{Script: "echo up; sleep 300; echo no"},
		{Command: []string{"sh", "-c", "echo up; sleep 300; echo no"}},
		{Image: derive(t, "USER 1234", "ENTRYPOINT echo up; sleep 300; echo no")},
	} {
		if s.Image == "" {
			s.Image = runtimetest.Image
		}
		h := start(t, r, s)
		var out text
		up := sinkFunc(func(rec runtime.Record) error {
			if err := out.Write(rec); err != nil || string(rec.Data) != "up" {
				return err
			}
			begin := time.Now()
			err := r.Stop(t.Context(), h, "SIGTERM", time.Minute)
			if took := time.Since(begin); took > 30*time.Second {
				t.Errorf("the end took %s", took)
			}
			return err
		})
		if err := r.Logs(t.Context(), h, "", up); err != nil {
			t.Error(err)
		}
		e, err := r.Wait(t.Context(), h)
		if err != nil || e.Code != 143 || out.String() != "up\n" {
			t.Errorf("%+v ends with %+v, %v, output %q; want 143", s, e, err, out.String())
		}
	}
}

// A step's process is no pid 1: signals end it, and somebody reaps its orphans.
func TestNoPid1(t *testing.T) {
	t.Parallel()
	r := open(t, fleet())
	for script, code := range map[string]int{
		"kill -SEGV $$; exit 0": 139,
		"kill -TERM $$; exit 0": 143,
		"(setsid sleep 0 & echo $! > /p); while kill -0 $(cat /p); do sleep 0.05; done; exit 4": 4,
		// Its own 127 needs no explanation of ours.
		"exit 127": 127,
	} {
		if _, e := run(t, r, runtime.Spec{Image: runtimetest.Image, Script: script}); e.Code != code || e.Reason != "" || e.Message != "" {
			t.Errorf("%q ends with %+v, want code %d", script, e, code)
		}
	}
}

// The init needs nothing of the image.
func TestInitInBareImage(t *testing.T) {
	t.Parallel()
	r := open(t, fleet())
	image := derive(t, "FROM scratch", "COPY --from=0 /bin/busybox /busybox", "USER 1234:5678", `ENTRYPOINT ["/busybox", "echo"]`, `CMD ["two", "words"]`)
	if out, e := run(t, r, runtime.Spec{Image: image}); e.Code != 0 || out != "two words\n" {
		t.Errorf("%q, %+v", out, e)
	}
	if out, e := run(t, r, runtime.Spec{Image: image, Command: []string{"/busybox", "false"}}); e.Code != 1 || out != "" {
		t.Errorf("%q, %+v", out, e)
	}
	if out, e := run(t, r, runtime.Spec{Image: image, Script: "exit 5", Shell: []string{"/busybox", "sh"}}); e.Code != 5 || out != "" {
		t.Errorf("%q, %+v", out, e)
	}
	_, e := run(t, r, runtime.Spec{Image: image, Command: []string{"/.slipway"}})
	if e.Code != 126 || !strings.HasPrefix(e.Message, `cannot start "/.slipway" in image `+image+": ") {
		t.Errorf("a folder for a program: %+v", e)
	}
}

// All steps of an agent share one init: none can write it.
func TestInitReadOnly(t *testing.T) {
	t.Parallel()
	cfg := fleet()
	before, err := os.ReadFile(cfg.Init)
	if err != nil {
		t.Fatal(err)
	}
	_, e := run(t, open(t, cfg), runtime.Spec{Image: runtimetest.Image, Script: "echo bad > /.slipway/init"})
	if after, err := os.ReadFile(cfg.Init); e.Code == 0 || err != nil || string(after) != string(before) {
		t.Errorf("a step wrote the init: %+v, %v", e, err)
	}
}
