package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/dirlock"
	"github.com/slipway-ci/slipway/shared/id"
)

const (
	nodeIDFile = "node-id"
	lockFile   = "lock"
	// segmentBytes is allocated at once, on every start of a fresh folder.
	segmentBytes    = 16 << 20
	keepSnapshots   = 2
	snapshotEntries = 8192
	trailingEntries = 10240
)

// NodeID returns the id of the node that lives in dir, making one at first
// start. An id is never an address: a cluster may come up with all of its
// addresses changed.
func NodeID(dir string) (string, error) {
	path := filepath.Join(dir, nodeIDFile)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", fmt.Errorf("cannot read the node id: %w", err)
	default:
		if s := strings.TrimSpace(string(data)); id.Valid(s) {
			return s, nil
		}
		return "", ci.Errorf(ci.Internal, "%s does not hold a node id: restore it, or give the node an empty folder", path)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make the data folder: %w", err)
	}
	s := id.New()
	if err := writeOnce(path, s+"\n"); err != nil {
		return "", fmt.Errorf("cannot keep the node id: %w", err)
	}
	return s, nil
}

// writeOnce writes a small file whole or not at all.
func writeOnce(path, text string) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// disk is what a node keeps: <dir>/{lock,node-id,wal/,snapshots/}.
type disk struct {
	lock  *dirlock.Lock
	wal   *wal.WAL
	snaps raft.SnapshotStore
}

func openDisk(dir string, log *slog.Logger) (d *disk, err error) {
	walDir := filepath.Join(dir, "wal")
	if err := os.MkdirAll(walDir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder of the log: %w", err)
	}
	d = &disk{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	// Without our own lock a second process would wait for ever in the
	// log's metadata file, without a word.
	if d.lock, err = lock(filepath.Join(dir, lockFile)); err != nil {
		return d, err
	}
	d.wal, err = wal.Open(walDir, wal.WithLogger(newRaftLog(log, "wal")), wal.WithSegmentSize(segmentBytes))
	if err != nil {
		return d, fmt.Errorf("cannot open the log in %s: %w", walDir, err)
	}
	d.snaps, err = raft.NewFileSnapshotStoreWithLogger(dir, keepSnapshots, newRaftLog(log, "snapshot"))
	if err != nil {
		return d, fmt.Errorf("cannot open the snapshots in %s: %w", dir, err)
	}
	return d, nil
}

func lock(path string) (*dirlock.Lock, error) {
	l, err := dirlock.Take(path)
	if errors.Is(err, dirlock.ErrHeld) {
		return nil, ci.Errorf(ci.Conflict, "the data folder %s is in use by another coordinator: stop that one, or name another folder: %w", filepath.Dir(path), err)
	}
	return l, err
}

func (d *disk) close() error {
	var errs []error
	if d.wal != nil {
		errs = append(errs, d.wal.Close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Release())
	}
	return errors.Join(errs...)
}
