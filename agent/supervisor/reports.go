package supervisor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/slipway-ci/slipway/shared/logpath"
)

// The names that a step may use in its report folder and below LOG_PATH.
const (
	reportName   = "report.json"
	completeName = "complete"
	outputsName  = "outputs"
)

// FileReport is a report as it was read: it is kept in the bucket as well.
type FileReport struct {
	Name string
	Data []byte
}

// reportDir reads a step's report folder. The step owns the folder, so nothing
// in it is trusted: links out of it, pipes and large files are not read.
type reportDir struct {
	path string
	seen map[string]stamp
	bad  map[string]error // files that do not parse, yet
}

type stamp struct {
	at   time.Time
	size int64
}

func newReportDir(path string) *reportDir {
	return &reportDir{path: path, seen: map[string]stamp{}, bad: map[string]error{}}
}

// make makes the folder; every user of an image may write into it.
func (d *reportDir) make() error {
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return fmt.Errorf("cannot make the report folder: %w", err)
	}
	// The umask has its say in MkdirAll.
	if err := os.Chmod(d.path, 0o777|os.ModeSticky); err != nil {
		return fmt.Errorf("cannot open the report folder to the step: %w", err)
	}
	return nil
}

// poll returns the reports that are new since the last poll and parse. A file
// that does not parse is being written, and is looked at again once it changes.
func (d *reportDir) poll() []parsed {
	var found []parsed
	for _, name := range []string{reportName, completeName} {
		info, err := os.Lstat(d.path + "/" + name)
		if err != nil {
			continue
		}
		now := stamp{info.ModTime(), info.Size()}
		if d.seen[name] == now {
			continue
		}
		data, err := d.read(name)
		if err == nil {
			var r logpath.Report
			if r, err = logpath.ParseReport(data); err == nil {
				found = append(found, parsed{r, FileReport{name, data}})
			}
		}
		d.seen[name] = now
		if d.bad[name] = err; err == nil {
			delete(d.bad, name)
		}
	}
	return found
}

type parsed struct {
	logpath.Report
	file FileReport
}

// problems lists the report files that never became readable.
func (d *reportDir) problems() []error {
	var all []error
	for name, err := range d.bad {
		all = append(all, fmt.Errorf("$SLIPWAY_REPORT_DIR/%s is not used: %w", name, err))
	}
	return all
}

// outputs reads the file of outputs; none is no error.
func (d *reportDir) outputs() (map[string]string, error) {
	data, err := d.read(outputsName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use outputs: %w", err)
	}
	return logpath.ParseOutputs(data)
}

func (d *reportDir) read(name string) ([]byte, error) {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return io.ReadAll(io.LimitReader(f, logpath.MaxReport+1)) // the parser says that more is too much
}
