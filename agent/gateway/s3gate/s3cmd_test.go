package s3gate_test

import (
	"bytes"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-ci/slipway/shared/needs"
)

// Debian's s3cmd, unmodified, as a step would run it.
func TestS3cmd(t *testing.T) {
	needs.Program(t, "s3cmd")
	s := newStage(t)
	dir := t.TempDir()
	root := "s3://" + s.bucket + "/" + prefix
	large := make([]byte, 17<<20)
	if _, err := rand.Read(large); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"large": large, "complete": []byte("SUCCESS\n"), "a ü+b": []byte("odd")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, error) {
		host := strings.TrimPrefix(s.endpoint, "http://")
		cmd := exec.CommandContext(t.Context(), "s3cmd", append([]string{
			"--config=/dev/null", "--no-ssl", "--host=" + host, "--host-bucket=" + host, "--no-progress",
			"--access_key=" + access, "--secret_key=" + secret,
		}, args...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := run(args...)
		if err != nil {
			t.Fatalf("s3cmd %q: %v\n%s", args, err, out)
		}
		return out
	}
	must("put", "complete", root+"/complete")
	s.waitTold(t, "one complete")
	must("put", "a ü+b", root+"/artifacts/")
	must("put", "--multipart-chunk-size-mb=5", "large", root+"/artifacts/large")
	if out := must("ls", root+"/artifacts/"); !strings.Contains(out, root+"/artifacts/large") || !strings.Contains(out, "a ü+b") {
		t.Errorf("ls:\n%s", out)
	}
	must("get", root+"/artifacts/large", "back")
	if back, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || !bytes.Equal(back, large) {
		t.Errorf("%d bytes came back of %d, %v", len(back), len(large), err)
	}
	must("sync", "--exclude=*", "--include=complete", dir+"/", root+"/synced/")
	must("cp", root+"/complete", root+"/copied")
	must("del", "--recursive", "--force", root+"/artifacts/")
	if out := must("ls", "--recursive", root+"/"); strings.Contains(out, "artifacts") || !strings.Contains(out, root+"/synced/complete") || !strings.Contains(out, root+"/copied") {
		t.Errorf("ls:\n%s", out)
	}
	for _, args := range [][]string{
		{"put", "complete", "s3://" + s.bucket + "/elsewhere"},
		{"put", "complete", root + "/status.json"},
		{"put", "large", root + "0/large"},
		{"get", "s3://" + s.bucket + "/fleet/cluster.json", "x"},
		{"ls", "s3://" + s.bucket + "/"},
		{"put", "--acl-public", "complete", root + "/public"},
	} {
		if out, err := run(args...); err == nil || !strings.Contains(out, "AccessDenied") && !strings.Contains(out, "403") {
			t.Errorf("s3cmd %q: %v\n%s", args, err, out)
		}
	}
}
