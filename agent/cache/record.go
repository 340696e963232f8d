package cache

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/shared/ci"
)

// record is record.json of a volume: the only source of what it is for and
// when it was last used.
type record struct {
	Tenant  ci.TenantID
	Scope   string
	Key     string
	Created time.Time
	Used    time.Time
	Passed  bool  // a step that used it has passed
	Size    int64 // bytes when last measured
}

func readRecord(dir string) (record, error) {
	var rec record
	raw, err := os.ReadFile(filepath.Join(dir, "record.json"))
	if err != nil {
		return rec, fmt.Errorf("cannot read a cache's record: %w", err)
	}
	if err := json.Unmarshal(raw, &rec); err != nil {
		return rec, fmt.Errorf("cannot read the cache's record %s: %w", dir, err)
	}
	return rec, nil
}

func writeRecord(dir string, rec record) error {
	raw, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("cannot write a cache's record: %w", err)
	}
	part, err := os.CreateTemp(dir, ".record-*")
	if err != nil {
		return fmt.Errorf("cannot write a cache's record: %w", err)
	}
	_, err = part.Write(raw)
	if closing := part.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(part.Name(), filepath.Join(dir, "record.json"))
	}
	if err != nil {
		os.Remove(part.Name())
		return fmt.Errorf("cannot write a cache's record: %w", err)
	}
	return nil
}

func (m *Manager) touch(dir string) error {
	rec, err := readRecord(dir)
	if err != nil {
		return err
	}
	rec.Used = m.cfg.Now()
	return writeRecord(dir, rec)
}

// expired reports whether nobody has used the volume for its ttl. One that
// another attempt is using never is.
func (m *Manager) expired(v *volume) bool {
	if v.spec.TTL <= 0 {
		return false
	}
	m.mu.Lock()
	alone := m.counts[v.dir] == 1
	m.mu.Unlock()
	rec, err := readRecord(v.dir)
	return err == nil && alone && m.cfg.Now().Sub(rec.Used) > v.spec.TTL
}

// found is a volume on disk.
type found struct {
	record
	dir string
}

// Volumes lists what is on disk, the longest unused first.
func (m *Manager) volumes() []found {
	entries, err := os.ReadDir(m.cfg.Dir)
	if err != nil {
		return nil
	}
	var all []found
	for _, e := range entries {
		dir := filepath.Join(m.cfg.Dir, e.Name())
		if rec, err := readRecord(dir); err == nil && !strings.HasSuffix(e.Name(), ".new") {
			all = append(all, found{rec, dir})
		}
	}
	slices.SortFunc(all, func(a, b found) int { return a.Used.Compare(b.Used) })
	return all
}

// bestMatch is the newest volume of the same owner whose key begins with one
// of the prefixes, tried in order. Only a volume that served counts.
func (m *Manager) bestMatch(tenant ci.TenantID, scope string, prefixes []string) *found {
	if len(prefixes) == 0 {
		return nil
	}
	all := m.volumes()
	for _, prefix := range prefixes {
		for i := len(all) - 1; i >= 0; i-- {
			if v := all[i]; v.Tenant == tenant && v.Scope == scope && v.Passed && strings.HasPrefix(v.Key, prefix) {
				return &v
			}
		}
	}
	return nil
}

// Sweep drops what an earlier agent left half made, and the volumes in which
// no step ever passed and that nobody holds.
func (m *Manager) Sweep() error {
	entries, err := os.ReadDir(m.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot sweep the caches: %w", err)
	}
	var errs []error
	for _, e := range entries {
		dir := filepath.Join(m.cfg.Dir, e.Name())
		m.mu.Lock()
		used := m.counts[strings.TrimSuffix(dir, ".new")] > 0
		m.mu.Unlock()
		rec, err := readRecord(dir)
		if !used && (err != nil || !rec.Passed || strings.HasSuffix(e.Name(), ".new")) {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// usage sums up the bytes of a tree's files.
func usage(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	return sum, err
}
