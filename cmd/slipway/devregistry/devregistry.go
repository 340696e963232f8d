// Package devregistry is the image registry of `slipway dev`: what is pushed
// to it stays in a folder. It knows no users, so it belongs on loopback.
package devregistry

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/slipway-ci/slipway/shared/ci"
)

// maxManifest is what other registries allow, too.
const maxManifest = 4 << 20

// Registry is an http.Handler that serves the OCI distribution API below /v2/.
// The library keeps layers in files but manifests in memory, so each manifest
// is also written to a journal, which is played back at the next start.
type Registry struct {
	inner http.Handler
	log   *slog.Logger
	// mu makes the journal's order that of the changes in memory.
	mu      sync.Mutex
	journal *journal
}

// Open serves the images in dir, which is made when absent. At most one
// process may have it open.
func Open(dir string, log *slog.Logger) (*Registry, error) {
	blobs := filepath.Join(dir, "blobs")
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		return nil, ci.Errorf(ci.Invalid, "cannot make the registry's folder: %w", err)
	}
	if err := dropUploads(blobs); err != nil {
		return nil, ci.Errorf(ci.Internal, "cannot clean the registry's folder %s: %w", blobs, err)
	}
	j, entries, err := openJournal(filepath.Join(dir, "manifests.jsonl"))
	if err != nil {
		return nil, err
	}
	r := &Registry{
		inner: registry.New(
			registry.WithBlobHandler(registry.NewDiskBlobHandler(blobs)),
			registry.WithReferrersSupport(true),
			registry.Logger(slog.NewLogLogger(log.Handler(), slog.LevelDebug)),
		),
		log: log, journal: j,
	}
	for _, e := range entries {
		if answer := r.play(e); answer.status != http.StatusCreated {
			// Without it the rest is still worth serving.
			log.Warn("cannot load an image manifest", "repository", e.Repo, "reference", e.Ref, "answer", answer.body.String())
		}
	}
	return r, nil
}

// Close closes the journal. Pushes fail from then on.
func (r *Registry) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.journal.close()
}

// ServeHTTP implements http.Handler.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	repo, ref, ok := manifestPath(req.URL.Path)
	if !ok || req.Method != http.MethodPut && req.Method != http.MethodDelete {
		r.inner.ServeHTTP(w, req)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxManifest))
	if err != nil {
		http.Error(w, "cannot read the manifest: "+err.Error(), http.StatusBadRequest)
		return
	}
	e := entry{Repo: repo, Ref: ref, Type: req.Header.Get("Content-Type"), Manifest: body, Deleted: req.Method == http.MethodDelete}
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := r.play(e)
	if answer.status/100 == 2 {
		if err := r.journal.append(e); err != nil {
			r.log.Error("cannot keep an image manifest", "repository", repo, "reference", ref, "error", err)
			http.Error(w, "cannot keep the manifest: "+err.Error(), http.StatusInternalServerError)
			return
		}
	}
	answer.send(w)
}

// play does to the registry in memory what an entry says.
func (r *Registry) play(e entry) *recorded {
	method := http.MethodPut
	if e.Deleted {
		method = http.MethodDelete
	}
	answer := &recorded{header: http.Header{}}
	req, err := http.NewRequest(method, "/v2/"+e.Repo+"/manifests/"+e.Ref, bytes.NewReader(e.Manifest))
	if err != nil {
		answer.WriteHeader(http.StatusBadRequest)
		answer.body.WriteString(err.Error())
		return answer
	}
	req.Header.Set("Content-Type", e.Type)
	r.inner.ServeHTTP(answer, req)
	return answer
}

// manifestPath takes /v2/<repository>/manifests/<reference> apart.
func manifestPath(path string) (repo, ref string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	at := strings.LastIndex(rest, "/manifests/")
	if !ok || at <= 0 {
		return "", "", false
	}
	repo, ref = rest[:at], rest[at+len("/manifests/"):]
	return repo, ref, ref != "" && !strings.Contains(ref, "/")
}

// dropUploads removes what pushes that broke off have left.
func dropUploads(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, "upload-*"))
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// recorded is an answer held back until the journal has its entry.
type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header, WriteHeader and Write implement http.ResponseWriter.
func (r *recorded) Header() http.Header { return r.header }

func (r *recorded) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorded) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}

func (r *recorded) send(w http.ResponseWriter) {
	for name, values := range r.header {
		w.Header()[name] = values
	}
	w.WriteHeader(max(r.status, http.StatusOK))
	_, _ = w.Write(r.body.Bytes()) // a client that is gone is not told
}
