package stepapi

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/slipway-ci/slipway/shared/lifecycle"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/needs"
)

func TestMain(m *testing.M) {
	// net/http lingers half a second on a connection whose body was too large
	needs.NoLeaks(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// serving runs a server for the test and returns it with the attempt's client.
func serving(t *testing.T, g Grant) (*Server, func(method, path, token, body string) (int, string)) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "api") // other temporary folders may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := New(dir, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	tasks := lifecycle.NewTasks(ctx)
	tasks.Go("server", func(ctx context.Context) {
		if err := s.Run(ctx); err != nil {
			t.Errorf("the server: %v", err)
		}
	})
	t.Cleanup(func() { stop(); _ = tasks.Wait(); os.RemoveAll(dir) })
	folder, err := s.Add(g)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(folder, SocketName))
	}}
	return s, func(method, path, token, body string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://step"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(text)
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, call := serving(t, Grant{Step: Step{Run: "r", Step: "build", Attempt: "a", Number: 2}, Token: "secret", ReportDir: dir})
	if code, text := call("GET", "/v1/step", "secret", ""); code != 200 || !strings.Contains(text, `"step":"build"`) || !strings.Contains(text, `"number":2`) {
		t.Errorf("step: %d %s", code, text)
	}
	for _, token := range []string{"", "wrong", "secret2"} {
		if code, text := call("GET", "/v1/step", token, ""); code != 401 || !strings.Contains(text, "SLIPWAY_TOKEN") {
			t.Errorf("token %q: %d %s", token, code, text)
		}
	}
	for _, body := range []string{`{"a":"1","b":"x=y\nEOF\nz"}`, `{"c":"3"}`} {
		if code, text := call("POST", "/v1/outputs", "secret", body); code != 200 {
			t.Errorf("outputs: %d %s", code, text)
		}
	}
	raw, _ := os.ReadFile(filepath.Join(dir, "outputs"))
	got, err := logpath.ParseOutputs(raw)
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "x=y\nEOF\nz", "c": "3"}, got); err != nil || diff != "" {
		t.Errorf("outputs (%v): %s", err, diff)
	}
	if code, _ := call("POST", "/v1/report", "secret", `{"state":"running","progress":0.5}`); code != 200 {
		t.Errorf("report: %d", code)
	}
	if raw, _ := os.ReadFile(filepath.Join(dir, "report.json")); !strings.Contains(string(raw), "0.5") {
		t.Errorf("report.json is %q", raw)
	}
	for _, bad := range [][2]string{{"/v1/report", "half {"}, {"/v1/outputs", `{"a=b":"1"}`}, {"/v1/outputs", `{"a":` + strings.Repeat("9", 70000) + `}`}} {
		if code, text := call("POST", bad[0], "secret", bad[1]); code != 400 || !strings.Contains(text, "cannot") {
			t.Errorf("%s %.20s: %d %s", bad[0], bad[1], code, text)
		}
	}
	if err := s.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Folder("a")); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
	if code, _ := call("GET", "/v1/step", "secret", ""); code != 0 {
		t.Errorf("the API still answers: %d", code)
	}
}

func TestAddTwiceAndAfterACrash(t *testing.T) {
	t.Parallel()
	g := Grant{Step: Step{Attempt: "a"}, Token: "x", ReportDir: t.TempDir()}
	s, call := serving(t, g)
	if _, err := s.Add(g); err != nil {
		t.Fatal(err)
	}
	if code, _ := call("GET", "/v1/step", "x", ""); code != 200 {
		t.Errorf("after a second Add: %d", code)
	}
	left := filepath.Join(s.Folder("b"), SocketName)
	if err := os.MkdirAll(filepath.Dir(left), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, nil, 0o644); err != nil { // as a killed agent leaves it
		t.Fatal(err)
	}
	if _, err := s.Add(Grant{Step: Step{Attempt: "b"}, Token: "y", ReportDir: t.TempDir()}); err != nil {
		t.Errorf("over a socket left behind: %v", err)
	}
}
