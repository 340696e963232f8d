// Package checkout puts the code of a run into a step's workspace: exactly one
// commit, through a bare mirror that the host keeps for each tenant and
// repository, or an archive of a dirty work tree.
package checkout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Config says where things lie.
type Config struct {
	Dir string   // holds mirrors/ and work/
	Env []string // added to git's environment: proxies and the like
	// Archive opens the source archive of a tenant by its sha256.
	Archive func(ctx context.Context, tenant ci.TenantID, sha256 string) (io.ReadCloser, error)
	Log     *slog.Logger
}

// Manager owns the mirrors and the workspaces of a host.
type Manager struct {
	cfg Config

	mu      sync.Mutex
	mirrors map[string]chan struct{}         // one fetch at a time into each
	taken   map[string]ci.AttemptID          // workspaces in use
	dirs    map[ci.AttemptID]string          // the workspace of each attempt
	uses    map[string]map[ci.AttemptID]bool // mirrors in use
}

// New returns a manager; the folders are made when first needed.
func New(cfg Config) *Manager {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Manager{
		cfg: cfg, mirrors: map[string]chan struct{}{}, taken: map[string]ci.AttemptID{},
		dirs: map[ci.AttemptID]string{}, uses: map[string]map[ci.AttemptID]bool{},
	}
}

// Request asks for a workspace.
type Request struct {
	Attempt  ci.AttemptID
	Tenant   ci.TenantID
	Workflow string
	Step     string
	Source   ci.Source
	Checkout ci.Checkout
}

// Workspace is a fresh folder with the code in it. Mirror, when not empty, has
// to be visible at its own path, read-only, where the step uses git.
type Workspace struct {
	Dir    string
	Mirror string
}

// Lease reserves the workspace's path and empties it. The path is the same for
// a step in every run, so that compilers' caches stay warm; a second attempt
// at the same time gets one with a suffix.
func (m *Manager) Lease(req Request) (string, error) {
	m.mu.Lock()
	dir, known := m.dirs[req.Attempt]
	if !known {
		base := filepath.Join(m.cfg.Dir, "work", string(req.Tenant), safe(req.Workflow), safe(req.Step))
		dir = base
		for n := 2; ; n++ {
			if _, used := m.taken[dir]; !used {
				break
			}
			dir = fmt.Sprintf("%s~%d", base, n)
		}
		m.taken[dir] = req.Attempt
		m.dirs[req.Attempt] = dir
	}
	m.mu.Unlock()
	return dir, nil
}

// Adopt takes a workspace back for an attempt that an earlier agent left running.
func (m *Manager) Adopt(attempt ci.AttemptID, dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken[dir] = attempt
	m.dirs[attempt] = dir
}

// Prepare leases the workspace, empties it and puts the code in. tell gets a
// line for each thing worth telling the user.
func (m *Manager) Prepare(ctx context.Context, req Request, tell func(string)) (Workspace, error) {
	dir, err := m.Lease(req)
	if err != nil {
		return Workspace{}, err
	}
	if err := empty(dir); err != nil {
		return Workspace{}, fmt.Errorf("cannot prepare the workspace %s: %w", dir, err)
	}
	ws := Workspace{Dir: dir}
	if req.Checkout.Disabled {
		return ws, nil
	}
	target, err := below(dir, req.Checkout.Path)
	if err != nil {
		return ws, err
	}
	switch {
	case req.Source.Archive != "":
		return ws, m.unpack(ctx, req, target, tell)
	case req.Source.Repo != "" && req.Source.SHA != "":
		ws.Mirror, err = m.checkout(ctx, req, target, tell)
		return ws, err
	}
	return ws, nil
}

// Release gives the workspace back and deletes what is in it.
func (m *Manager) Release(attempt ci.AttemptID) error {
	m.mu.Lock()
	dir, ok := m.dirs[attempt]
	m.mu.Unlock()
	if !ok {
		return nil
	}
	err := os.RemoveAll(dir)
	m.mu.Lock()
	delete(m.dirs, attempt)
	delete(m.taken, dir)
	for _, users := range m.uses {
		delete(users, attempt)
	}
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("cannot delete the workspace %s: %w", dir, err)
	}
	return nil
}

// Sweep deletes the workspaces that no attempt holds, left by an earlier agent.
func (m *Manager) Sweep() error {
	var found []string
	for _, depth := range []string{"*/*/*"} {
		hits, err := filepath.Glob(filepath.Join(m.cfg.Dir, "work", depth))
		if err != nil {
			return err
		}
		found = append(found, hits...)
	}
	var errs []error
	for _, dir := range found {
		m.mu.Lock()
		_, used := m.taken[dir]
		m.mu.Unlock()
		if !used {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// safe makes a name one path element: other characters are replaced, and a
// hash keeps two names apart that would become the same.
func safe(name string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, name)
	if clean == name && len(name) <= 80 && strings.Trim(name, ".") != "" {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return clean[:min(len(clean), 60)] + "-" + hex.EncodeToString(sum[:4])
}

// below joins path to dir and refuses one that leaves it.
func below(dir, path string) (string, error) {
	if path == "" || path == "." {
		return dir, nil
	}
	if !filepath.IsLocal(path) {
		return "", ci.Errorf(ci.Invalid, "cannot check out to %q: checkout.path must stay below the workspace", path)
	}
	target := filepath.Join(dir, path)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return "", fmt.Errorf("cannot prepare the workspace: %w", err)
	}
	return target, nil
}

// empty makes dir a new, empty folder.
func empty(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o755)
}
