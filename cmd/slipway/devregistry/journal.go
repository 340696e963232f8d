package devregistry

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/slipway-ci/slipway/shared/ci"
)

// entry is one change: a manifest was put under a reference, or taken away.
type entry struct {
	Repo     string `json:"repo"`
	Ref      string `json:"ref"` // tag or digest
	Type     string `json:"type,omitempty"`
	Manifest []byte `json:"manifest,omitempty"`
	Deleted  bool   `json:"deleted,omitempty"`
}

// journal appends entries to a file, one JSON object a line.
type journal struct {
	file *os.File
	size int64 // up to the last whole entry
}

// openJournal reads the entries that still say something, in order, and
// rewrites the file to hold just those. A last line that a crash cut short was
// never acknowledged and is dropped; any other bad line is an error.
func openJournal(path string) (*journal, []entry, error) {
	entries, err := readEntries(path)
	if err != nil {
		return nil, nil, ci.Errorf(ci.Internal, "cannot read the registry's journal %s: %w", path, err)
	}
	entries = compact(entries)
	j, err := writeJournal(path, entries)
	if err != nil {
		return nil, nil, ci.Errorf(ci.Internal, "cannot write the registry's journal %s: %w", path, err)
	}
	return j, entries, nil
}

func readEntries(path string) ([]entry, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var entries []entry
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return entries, nil // line is empty, or cut short
		}
		if err != nil {
			return nil, err
		}
		var e entry
		if err := json.Unmarshal(bytes.TrimSpace(line), &e); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
}

// compact drops what a later entry undoes. A manifest stays reachable by its
// digest when its tag moves on. A digest keeps its first place, since an index
// is refused unless the manifests it names came before it; a tag takes its
// last one, for the same reason.
func compact(entries []entry) []entry {
	type place struct{ repo, ref string }
	var all []entry
	at := map[place]int{} // in all, of what is there at the moment
	put := func(e entry, ref string, move bool) {
		old, there := at[place{e.Repo, ref}]
		if there && !move {
			return
		}
		if there {
			all[old].Deleted = true
		}
		e.Ref = ref
		all = append(all, e)
		at[place{e.Repo, ref}] = len(all) - 1
	}
	for _, e := range entries {
		if e.Deleted {
			if old, there := at[place{e.Repo, e.Ref}]; there {
				all[old].Deleted = true
				delete(at, place{e.Repo, e.Ref})
			}
			continue
		}
		sum := sha256.Sum256(e.Manifest)
		digest := "sha256:" + hex.EncodeToString(sum[:])
		put(e, digest, false)
		if e.Ref != digest {
			put(e, e.Ref, true)
		}
	}
	return slices.DeleteFunc(all, func(e entry) bool { return e.Deleted })
}

// writeJournal puts a new file in the old one's place.
func writeJournal(path string, entries []entry) (*journal, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".manifests-*")
	if err != nil {
		return nil, err
	}
	j := &journal{file: f}
	for _, e := range entries {
		if err = j.write(e); err != nil {
			break
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return j, nil
}

func (j *journal) write(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	n, err := j.file.WriteAt(append(line, '\n'), j.size)
	if err != nil {
		return err
	}
	j.size += int64(n)
	return nil
}

// append makes an entry durable. What a failed one has written is overwritten
// by the next.
func (j *journal) append(e entry) error {
	before := j.size
	err := j.write(e)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.size = before
		return errors.Join(err, j.file.Truncate(before))
	}
	return nil
}

func (j *journal) close() error { return j.file.Close() }
