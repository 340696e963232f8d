package needs

import (
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
)

func TestParseHost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ host, network, address string }{
		{"", "unix", "/var/run/docker.sock"},
		{"unix:///tmp/x.sock", "unix", "/tmp/x.sock"},
		{"tcp://127.0.0.1:2375", "tcp", "127.0.0.1:2375"},
		{"ssh://somewhere", "", ""},
	} {
		network, address, err := parseHost(tt.host)
		if network != tt.network || address != tt.address || (err != nil) != (tt.network == "") {
			t.Errorf("parseHost(%q) = %q, %q, %v; want %q, %q", tt.host, network, address, err, tt.network, tt.address)
		}
	}
}

func TestAsk(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "engine.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_ping", func(http.ResponseWriter, *http.Request) {})
	srv := httptest.NewUnstartedServer(mux)
	if err := srv.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	srv.Listener = ln
	srv.Start()
	defer srv.Close()

	if err := ask(t.Context(), "unix://"+socket, "/_ping"); err != nil {
		t.Errorf("a living engine: %v", err)
	}
	if err := ask(t.Context(), "unix://"+socket, "/images/none/json"); err == nil {
		t.Error("a 404 passes for an image")
	}
	if err := ask(t.Context(), "unix://"+socket+".none", "/_ping"); err == nil {
		t.Error("a missing socket passes for an engine")
	}
}

// recorder notes how a test was given up; the embedded TB is nil on purpose:
// anything else called on it must panic.
type recorder struct {
	testing.TB
	fatal, skip bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Fatalf(string, ...any) { r.fatal = true }
func (r *recorder) Skipf(string, ...any)  { r.skip = true }

func TestMissingSkipsOrFails(t *testing.T) {
	t.Setenv(NoSkip, "")
	var r recorder
	Program(&r, "slipway-no-such-program")
	if !r.skip || r.fatal {
		t.Errorf("without %s: %+v, want a skip", NoSkip, r)
	}
	t.Setenv(NoSkip, "1")
	r = recorder{}
	Program(&r, "slipway-no-such-program")
	if r.skip || !r.fatal {
		t.Errorf("with %s=1: %+v, want a failure", NoSkip, r)
	}
}
