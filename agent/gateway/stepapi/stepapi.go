// Package stepapi serves each running step a small HTTP API on a socket of its
// own: what it is, and a way to report outputs and progress. The socket lies
// in a folder that is mounted into the step.
package stepapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/lifecycle"
)

// SocketName is the socket's name in its folder.
const SocketName = "api.sock"

// Step is what GET /v1/step tells.
type Step struct {
	Tenant    ci.TenantID  `json:"tenant"`
	Run       ci.RunID     `json:"run"`
	Workflow  string       `json:"workflow"`
	Step      string       `json:"step"`
	Attempt   ci.AttemptID `json:"attempt"`
	Number    int          `json:"number"`
	Fence     uint64       `json:"fence"`
	LogPath   string       `json:"log_path"`
	ReportDir string       `json:"report_dir"`
}

// Grant opens the API for one attempt.
type Grant struct {
	Step      Step
	Token     string // the bearer token of the attempt
	ReportDir string // on the host; what the step reports is written there
}

// Server owns the sockets of a host's steps.
type Server struct {
	dir   string
	log   *slog.Logger
	tasks *lifecycle.Tasks

	mu   sync.Mutex
	open map[ci.AttemptID]*http.Server
}

// New returns a server whose sockets lie in folders below dir (whose path must
// leave room for some 30 bytes of the 108 that a socket's path may have).
func New(dir string, log *slog.Logger) *Server {
	tasks := lifecycle.NewTasks(context.Background()) //nolint:forbidigo // a socket lives until Remove or the end of Run
	return &Server{dir: dir, log: log, tasks: tasks, open: map[ci.AttemptID]*http.Server{}}
}

// Run serves until ctx ends, then closes every socket.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	for id, srv := range s.open {
		srv.Close()
		delete(s.open, id)
	}
	s.mu.Unlock()
	return s.tasks.Stop()
}

// Folder is where the attempt's socket lies: the same for the same attempt, so
// that an agent that comes back serves the path that the step knows.
func (s *Server) Folder(attempt ci.AttemptID) string {
	sum := sha256.Sum256([]byte(attempt))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:4]))
}

// Add listens for the attempt and returns the folder to mount. Adding twice is
// no error.
func (s *Server) Add(g Grant) (string, error) {
	folder := s.Folder(g.Step.Attempt)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.open[g.Step.Attempt]; ok {
		return folder, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the folder of the step API: %w", err)
	}
	path := filepath.Join(folder, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("cannot replace a socket of the step API: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return "", fmt.Errorf("cannot open the step API: %w", err)
	}
	// any user of the image may connect; the token says who it is
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return "", fmt.Errorf("cannot open the step API: %w", err)
	}
	srv := &http.Server{Handler: s.handler(g), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	ok := s.tasks.Go("step API "+string(g.Step.Attempt), func(context.Context) {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Warn("the step API ended", "attempt", g.Step.Attempt, "error", err)
		}
	})
	if !ok {
		l.Close()
		return "", errors.New("cannot open the step API: the agent is stopping")
	}
	s.open[g.Step.Attempt] = srv
	return folder, nil
}

// Remove closes the attempt's socket and deletes its folder.
func (s *Server) Remove(attempt ci.AttemptID) error {
	s.mu.Lock()
	srv := s.open[attempt]
	delete(s.open, attempt)
	s.mu.Unlock()
	if srv != nil {
		srv.Close()
	}
	if err := os.RemoveAll(s.Folder(attempt)); err != nil {
		return fmt.Errorf("cannot delete the folder of the step API: %w", err)
	}
	return nil
}

func (s *Server) handler(g Grant) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/step", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, g.Step) })
	mux.HandleFunc("POST /v1/outputs", func(w http.ResponseWriter, r *http.Request) { reply(w, saveOutputs(g.ReportDir, r)) })
	mux.HandleFunc("POST /v1/report", func(w http.ResponseWriter, r *http.Request) { reply(w, saveReport(g.ReportDir, r)) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(g.Token)) != 1 {
			reply(w, ci.Errorf(ci.Unauthenticated, "cannot tell who calls: send Authorization: Bearer $SLIPWAY_TOKEN"))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r)
	})
}

// reply answers {} or the error.
func reply(w http.ResponseWriter, err error) {
	if err == nil {
		answer(w, http.StatusOK, struct{}{})
		return
	}
	status := http.StatusInternalServerError
	switch ci.KindOf(err) {
	case ci.Invalid:
		status = http.StatusBadRequest
	case ci.Unauthenticated:
		status = http.StatusUnauthorized
	default: // the agent's own trouble
	}
	answer(w, status, map[string]string{"error": err.Error()})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the step went away; nobody is left to tell
}
