package docker_test

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/agent/runtime/docker"
	"github.com/slipway-ci/slipway/agent/runtime/runtimetest"
	"github.com/slipway-ci/slipway/shared/ci"
)

func cli(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// derive makes an image of the test image with other settings.
func derive(t testing.TB, changes ...string) string {
	t.Helper()
	runtimetest.NeedImage(t)
	// Each its own: an image that two tests share would go with the first of them.
	file := "FROM " + runtimetest.Image + "\nLABEL test=" + random() + "\n" + strings.Join(changes, "\n") + "\n"
	cmd := exec.Command("docker", "build", "-q", "--force-rm", "-")
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	cmd.Stdin = strings.NewReader(file)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot build an image: %v\n%s", err, said.String())
	}
	id := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", id).Run() })
	return id
}

// problem wants a Problem with the reason, whose text has all of the words.
func problem(t testing.TB, err error, reason ci.Reason, words ...string) {
	t.Helper()
	var p *runtime.Problem
	if !errors.As(err, &p) || p.Reason != reason {
		t.Errorf("error %v, want a problem with reason %s", err, reason)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the text lacks %q: %v", w, err)
		}
	}
}

func TestPull(t *testing.T) {
	t.Parallel()
	runtimetest.NeedImage(t)
	// Engines take 127.0.0.0/8 for a registry without TLS.
	srv := httptest.NewServer(registry.New(registry.Logger(quiet)))
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	image := host + "/team/app:v1"
	cli(t, "tag", runtimetest.Image, image)
	cli(t, "push", image)
	cli(t, "rmi", image)
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", image).Run() })

	r := open(t, fleet())
	prepare := func(image string, policy ci.PullPolicy) (runtime.Handle, error) {
		s := runtime.Spec{Attempt: ci.AttemptID("test-" + random()), Image: image, Pull: policy, Command: []string{"true"}, Dir: t.TempDir()}
		h, err := r.Prepare(t.Context(), s)
		if err == nil {
			if err := r.Remove(t.Context(), h); err != nil {
				t.Error(err)
			}
		}
		return h, err
	}
	_, err := prepare(image, ci.PullNever)
	problem(t, err, ci.ReasonImagePull, image, "pull: never")
	for _, policy := range []ci.PullPolicy{ci.PullIfNotPresent, ci.PullNever, ci.PullAlways} {
		h, err := prepare(image, policy)
		if err != nil || !strings.HasPrefix(h.ImageDigest, host+"/team/app@sha256:") {
			t.Errorf("pull %s: digest %q, %v", policy, h.ImageDigest, err)
		}
		if again, err := prepare(h.ImageDigest, policy); err != nil || again.ImageDigest != h.ImageDigest {
			t.Errorf("by digest: %q, %v, want %q", again.ImageDigest, err, h.ImageDigest)
		}
	}
	_, err = prepare(host+"/team/app:none", "")
	problem(t, err, ci.ReasonImagePull, "app:none", "check the name and tag")
	_, err = prepare("Not/A Name", "")
	problem(t, err, ci.ReasonImagePull, "Not/A Name")
	_, err = prepare("", "")
	problem(t, err, ci.ReasonImagePull, "without an image")

	closed := httptest.NewServer(nil)
	closed.Close()
	_, err = prepare(strings.TrimPrefix(closed.URL, "http://")+"/x:1", "")
	problem(t, err, ci.ReasonImagePull, "cannot be reached from this host")
	_, err = prepare("registry.slipway.invalid/x:1", "")
	problem(t, err, ci.ReasonImagePull, "registry.slipway.invalid/x:1")

	locked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		http.Error(w, `{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}`, http.StatusUnauthorized)
	}))
	t.Cleanup(locked.Close)
	_, err = prepare(strings.TrimPrefix(locked.URL, "http://")+"/secret:1", "")
	problem(t, err, ci.ReasonImagePull, "docker login")
}

func TestImageOfItsOwn(t *testing.T) {
	t.Parallel()
	image := derive(t, `ENV FROM_IMAGE=yes`, `WORKDIR /work`, `ENTRYPOINT ["/bin/sh", "-c", "pwd; echo $FROM_IMAGE $0"]`, `CMD ["default"]`)
	r := open(t, fleet())
	got, e := run(t, r, runtime.Spec{Image: image, Env: []string{"X=1"}})
	if e.Code != 0 || got != "/work\nyes default\n" {
		t.Errorf("the image's own entry point: %q, %+v", got, e)
	}
	got, e = run(t, r, runtime.Spec{Image: image, Command: []string{"echo", "instead"}})
	if e.Code != 0 || got != "instead\n" {
		t.Errorf("a command instead of the entry point: %q, %+v", got, e)
	}
	got, e = run(t, r, runtime.Spec{Image: image, Script: "echo script"})
	if e.Code != 0 || got != "script\n" {
		t.Errorf("a script instead of the entry point: %q, %+v", got, e)
	}
	bare := derive(t, `RUN rm /bin/sh`)
	if _, e := run(t, r, runtime.Spec{Image: bare, Script: "true"}); e.Code != 127 || !strings.Contains(e.Message, "`shell`") || !strings.Contains(e.Message, "/bin/sh") {
		t.Errorf("an image without a shell: %+v", e)
	}
}

// A step whose image runs as somebody else can write its workspace.
func TestWritable(t *testing.T) {
	t.Parallel()
	r := open(t, fleet())
	for _, user := range []string{"1234", "1234:5678", "user", "root"} {
		dir := t.TempDir()
		if err := os.MkdirAll(dir+"/sub", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/sub/file", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		got, e := run(t, r, runtime.Spec{
			Image: derive(t, "USER "+user), Script: "echo new > new; echo more >> sub/file; echo fine", WorkDir: "/w",
			Mounts: []runtime.Mount{{Source: dir, Target: "/w"}}, Writable: []string{dir},
		})
		if e.Code != 0 || got != "fine\n" {
			t.Errorf("user %s: %q, %+v", user, got, e)
		}
	}
}

func TestMountReadOnly(t *testing.T) {
	t.Parallel()
	r := open(t, fleet())
	runtimetest.NeedImage(t)
	dir := t.TempDir()
	_, e := run(t, r, runtime.Spec{Image: runtimetest.Image, Script: "echo x > /m/x", Mounts: []runtime.Mount{{Source: dir, Target: "/m", ReadOnly: true}}})
	if e.Code == 0 {
		t.Error("a read-only mount was written")
	}
	_, err := r.Prepare(t.Context(), runtime.Spec{
		Attempt: ci.AttemptID("test-" + random()), Image: runtimetest.Image, Command: []string{"true"},
		Mounts: []runtime.Mount{{Source: dir + "/none", Target: "/m"}}, Dir: dir,
	})
	problem(t, err, ci.ReasonInfra, dir+"/none")
}

// Steps reach the host at the gateway, and not each other.
func TestNetwork(t *testing.T) {
	t.Parallel()
	runtimetest.NeedImage(t)
	cfg := fleet()
	r := open(t, cfg)
	gateway, err := r.Gateway(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("from the host\n"))
	}))
	if err := srv.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	if srv.Listener, err = net.Listen("tcp", net.JoinHostPort(gateway, "0")); err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(srv.Close)
	got, e := run(t, r, runtime.Spec{Image: runtimetest.Image, Script: "grep host.docker.internal /etc/hosts | cut -f1; wget -q -O - " + srv.URL})
	if e.Code != 0 || got != gateway+"\nfrom the host\n" {
		t.Errorf("%q, %+v", got, e)
	}

	neighbour := start(t, r, runtime.Spec{Image: runtimetest.Image, Script: "echo hi | nc -l -p 8080; sleep 600"})
	ip := cli(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", neighbour.ID)
	if _, e := run(t, r, runtime.Spec{Image: runtimetest.Image, Script: "nc -w 2 " + ip + " 8080 < /dev/null"}); e.Code == 0 {
		t.Error("a step reaches its neighbour")
	}

	// A network that went between create and start comes back.
	other := open(t, fleet())
	h := prepare(t, other, runtime.Spec{Image: runtimetest.Image, Script: "exit 4"})
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := other.Start(t.Context(), h); err != nil {
		t.Fatalf("Start without a network: %v", err)
	}
	if e, err := other.Wait(t.Context(), h); err != nil || e.Code != 4 {
		t.Errorf("Wait: %+v, %v", e, err)
	}

	cfg.Cluster = "another"
	foreign, err := docker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := foreign.Gateway(t.Context()); ci.KindOf(errors.Unwrap(err)) != ci.Conflict {
		t.Errorf("a network of another cluster: %v, want a conflict", err)
	}
	if err := foreign.Close(t.Context()); err == nil {
		t.Error("Close deletes, or ignores, a network of another cluster")
	}
}
