package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
)

// Stage is where a worker stands; it is what the journal keeps. See worker.go
// for the diagram.
type Stage string

// The stages, in order.
const (
	StageTaken    Stage = "taken"    // journalled; things may have been made, no user code ran
	StageStarted  Stage = "started"  // user code may be running, or have ended
	StageStopping Stage = "stopping" // it is over, and why is settled; user code may still be running
	StageEnded    Stage = "ended"    // the outcome is settled, nothing runs, the log is whole on disk
	StageShipped  Stage = "shipped"  // the bucket has everything
)

// Entry is all that a later agent needs to go on with an attempt.
type Entry struct {
	Assignment Assignment
	Stage      Stage
	BootID     string
	Token      string // of the step API
	S3         S3Grant
	Workspace  Workspace
	Caches     []CacheLease
	Handle     runtime.Handle // zero until Prepare has answered
	StartedAt  time.Time      // wall, for people
	StartedFor time.Duration  // boot time at the start
	Verdict    *Outcome       // why it is being stopped
	Outcome    *Outcome
	Report     *FileReport // the step's last word in its report folder
	Manifest   ci.LogManifest
	Artifacts  []ci.Artifact
}

// Outcome is how an attempt ended.
type Outcome struct {
	State      ci.AttemptState // terminal
	Reason     ci.Reason
	Message    string
	Exited     bool // the user's code ended, with ExitCode
	ExitCode   int
	Outputs    map[string]string
	FinishedAt time.Time
	// Dropped: nobody waits for a report, since the attempt was never ours.
	Dropped bool
}

// Journal keeps one file per attempt, replaced by rename, from before anything
// is made for the attempt until its final report is acknowledged.
type Journal struct {
	dir string
	log *slog.Logger
}

// OpenJournal opens the journal in dir, which it makes when it is not there.
func OpenJournal(dir string, log *slog.Logger) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open the agent's journal: %w", err)
	}
	return &Journal{dir, log}, nil
}

const entryExt = ".json"

func (j *Journal) name(id ci.AttemptID) string { return filepath.Join(j.dir, string(id)+entryExt) }

// Load returns every entry. A file that cannot be read as one is set aside, so
// that one bad entry does not keep an agent from its other steps.
func (j *Journal) Load() ([]Entry, error) {
	files, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read the agent's journal: %w", err)
	}
	var all []Entry
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), entryExt) || f.Name() == indexFile {
			continue
		}
		name := filepath.Join(j.dir, f.Name())
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read the agent's journal: %w", err)
		}
		var e Entry
		if err := json.Unmarshal(data, &e); err != nil || string(e.Assignment.Attempt)+entryExt != f.Name() {
			j.log.Error("an entry of the journal is broken; it is set aside", "file", name, "error", err)
			if err := os.Rename(name, name+".broken"); err != nil {
				return nil, fmt.Errorf("cannot set a broken entry of the journal aside: %w", err)
			}
			continue
		}
		all = append(all, e)
	}
	return all, nil
}

// Put writes an entry; when it returns nil the entry survives a loss of power.
func (j *Journal) Put(e *Entry) error {
	return j.write(j.name(e.Assignment.Attempt), e, true)
}

// Remove forgets an attempt. One that is not there is no error.
func (j *Journal) Remove(id ci.AttemptID) error {
	if err := os.Remove(j.name(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove attempt %s from the journal: %w", id, err)
	}
	return nil
}

const indexFile = "index.json"

// LoadIndex returns the highest index seen.
func (j *Journal) LoadIndex() (Index, error) {
	data, err := os.ReadFile(filepath.Join(j.dir, indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Index{}, nil
	}
	var at Index
	if err == nil {
		err = json.Unmarshal(data, &at)
	}
	if err != nil {
		return Index{}, fmt.Errorf("cannot read the agent's set index: %w", err)
	}
	return at, nil
}

// PutIndex keeps the highest index seen. It is not synced: after a loss of
// power nothing is running that an old set could stop.
func (j *Journal) PutIndex(at Index) error {
	return j.write(filepath.Join(j.dir, indexFile), at, false)
}

func (j *Journal) write(name string, v any, sync bool) (err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	_, statErr := os.Lstat(name)
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(name+".new", name)
	}
	if err == nil && sync && errors.Is(statErr, fs.ErrNotExist) {
		// Only a new name needs its folder synced: an older version of the
		// entry is as good a place to resume from.
		err = syncDir(j.dir)
	}
	if err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
