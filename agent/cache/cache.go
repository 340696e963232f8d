// Package cache keeps folders on the host between runs: a volume a key, named
// so that one tenant can never reach another's, evicted by our own record of
// the last use.
package cache

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Config says where the volumes lie.
type Config struct {
	Dir string
	Now func() time.Time // wall clock of the records; default time.Now
	Log *slog.Logger
}

// Manager owns the cache volumes of a host.
type Manager struct {
	cfg Config

	mu     sync.Mutex
	held   map[ci.AttemptID][]*volume
	gates  map[string]chan struct{} // exclusive volumes, one user at a time
	counts map[string]int           // users of each volume
}

// volume is one cache folder in use by an attempt.
type volume struct {
	dir       string // holds data/ and record.json
	spec      ci.CacheSpec
	exclusive bool
}

// New returns a manager; the folder is made when first needed.
func New(cfg Config) *Manager {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Manager{cfg: cfg, held: map[ci.AttemptID][]*volume{}, gates: map[string]chan struct{}{}, counts: map[string]int{}}
}

// Request asks for the volumes of an attempt.
type Request struct {
	Attempt  ci.AttemptID
	Seed     []byte // the cluster's secret that names volumes
	Tenant   ci.TenantID
	Workflow string
	Step     string
	Caches   []ci.CacheSpec // rendered, hashes resolved
}

// Mount is a volume and where the step wants it.
type Mount struct {
	Source string // on the host
	Target string // as written: absolute, or relative to the workspace
}

// Acquire returns a folder for each cache, restored from the best match where
// the key is new. An exclusive volume is waited for.
func (m *Manager) Acquire(ctx context.Context, req Request, tell func(string)) ([]Mount, error) {
	var mounts []Mount
	for _, spec := range req.Caches {
		v, err := m.acquire(ctx, req, spec, tell)
		if err != nil {
			m.Release(req.Attempt, false)
			return nil, fmt.Errorf("cannot prepare the cache %q for %s: %w", spec.Key, spec.Path, err)
		}
		mounts = append(mounts, Mount{Source: filepath.Join(v.dir, "data"), Target: spec.Path})
	}
	return mounts, nil
}

func (m *Manager) acquire(ctx context.Context, req Request, spec ci.CacheSpec, tell func(string)) (*volume, error) {
	scope := scopeOf(req, spec)
	v := &volume{dir: m.dir(req, scope, spec.Key), spec: spec, exclusive: spec.Mode == "exclusive"}
	if v.exclusive {
		if err := m.enter(ctx, v.dir, tell, spec.Key); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	m.held[req.Attempt] = append(m.held[req.Attempt], v)
	m.counts[v.dir]++
	m.mu.Unlock()
	if m.expired(v) {
		if err := os.RemoveAll(v.dir); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(filepath.Join(v.dir, "data")); errors.Is(err, fs.ErrNotExist) {
		if err := m.create(ctx, req, v, scope, tell); err != nil {
			return nil, err
		}
	}
	return v, m.touch(v.dir)
}

// enter waits until nobody else uses an exclusive volume.
func (m *Manager) enter(ctx context.Context, dir string, tell func(string), key string) error {
	m.mu.Lock()
	gate := m.gates[dir]
	if gate == nil {
		gate = make(chan struct{}, 1)
		m.gates[dir] = gate
	}
	m.mu.Unlock()
	select {
	case gate <- struct{}{}:
		return nil
	default:
		tell(fmt.Sprintf("waiting for the cache %q, which another step uses exclusively", key))
	}
	select {
	case gate <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// create makes a new volume, as a copy of the newest one whose key begins with
// a restore prefix. It appears by rename, so that a crash leaves no half.
func (m *Manager) create(ctx context.Context, req Request, v *volume, scope string, tell func(string)) error {
	part := v.dir + ".new"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := os.MkdirAll(part, 0o755); err != nil {
		return err
	}
	data := filepath.Join(part, "data")
	from := m.bestMatch(req.Tenant, scope, v.spec.Restore)
	if from == nil {
		if err := os.Mkdir(data, 0o777); err != nil {
			return err
		}
		// the step's user is the image's; within a tenant a cache is shared
		if err := os.Chmod(data, 0o777); err != nil {
			return err
		}
	} else {
		begun := m.cfg.Now()
		// cp knows reflinks, holes, owners and times; a walk of our own would not
		out, err := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", filepath.Join(from.dir, "data"), data).CombinedOutput()
		if err != nil {
			return fmt.Errorf("cannot restore it from %q: %s: %w", from.Key, out, err)
		}
		tell(fmt.Sprintf("cache %q restored from %q in %.1f s", v.spec.Key, from.Key, m.cfg.Now().Sub(begun).Seconds()))
	}
	rec := record{Tenant: req.Tenant, Scope: scope, Key: v.spec.Key, Created: m.cfg.Now(), Used: m.cfg.Now()}
	if err := writeRecord(part, rec); err != nil {
		return err
	}
	return os.Rename(part, v.dir)
}

// Release gives an attempt's volumes back. A volume in which no step ever
// passed is dropped: half a download must not become a cache.
func (m *Manager) Release(attempt ci.AttemptID, passed bool) {
	m.mu.Lock()
	volumes := m.held[attempt]
	delete(m.held, attempt)
	m.mu.Unlock()
	for _, v := range volumes {
		m.release(v, passed)
	}
}

func (m *Manager) release(v *volume, passed bool) {
	m.mu.Lock()
	m.counts[v.dir]--
	last := m.counts[v.dir] == 0
	if last {
		delete(m.counts, v.dir)
	}
	gate := m.gates[v.dir]
	m.mu.Unlock()
	if err := m.settle(v, passed, last); err != nil {
		m.cfg.Log.Warn("cannot settle a cache", "key", v.spec.Key, "error", err)
	}
	if v.exclusive && gate != nil {
		<-gate
	}
}

// settle notes the use, and drops a volume that never served or outgrew its cap.
func (m *Manager) settle(v *volume, passed, last bool) error {
	rec, err := readRecord(v.dir)
	if err != nil {
		return err
	}
	rec.Used = m.cfg.Now()
	rec.Passed = rec.Passed || passed
	if last && !rec.Passed {
		return os.RemoveAll(v.dir)
	}
	if limit := v.spec.MaxSize; last && limit > 0 {
		if rec.Size, err = usage(filepath.Join(v.dir, "data")); err != nil {
			return err
		}
		if rec.Size > limit {
			m.cfg.Log.Info("a cache outgrew its max_size and is dropped", "key", rec.Key, "bytes", rec.Size, "max_size", limit)
			return os.RemoveAll(v.dir)
		}
	}
	return writeRecord(v.dir, rec)
}

// Adopt notes the volumes of an attempt that an earlier agent left running.
func (m *Manager) Adopt(req Request) {
	for _, spec := range req.Caches {
		v := &volume{dir: m.dir(req, scopeOf(req, spec), spec.Key), spec: spec, exclusive: spec.Mode == "exclusive"}
		m.mu.Lock()
		if v.exclusive {
			if m.gates[v.dir] == nil {
				m.gates[v.dir] = make(chan struct{}, 1)
			}
			select {
			case m.gates[v.dir] <- struct{}{}:
			default:
			}
		}
		m.held[req.Attempt] = append(m.held[req.Attempt], v)
		m.counts[v.dir]++
		m.mu.Unlock()
	}
}

// scopeOf names who shares a cache within its tenant.
func scopeOf(req Request, spec ci.CacheSpec) string {
	switch spec.Scope {
	case "tenant":
		return "tenant"
	case "step":
		return "step/" + req.Workflow + "/" + req.Step
	default:
		return "workflow/" + req.Workflow
	}
}

// dir is the volume's folder: an HMAC, so that no name a tenant can choose
// leads to another's.
func (m *Manager) dir(req Request, scope, key string) string {
	mac := hmac.New(sha256.New, req.Seed)
	for _, part := range []string{string(req.Tenant), scope, key} {
		fmt.Fprintf(mac, "%d:%s", len(part), part)
	}
	return filepath.Join(m.cfg.Dir, hex.EncodeToString(mac.Sum(nil))[:40])
}
