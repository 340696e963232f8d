package stepapi

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
)

// maxBody bounds a call, in bytes; outputs and reports are capped alike.
const maxBody = logpath.MaxReport

// saveOutputs appends a JSON object of strings to the report folder's outputs
// file, where the step's own lines stand too.
func saveOutputs(dir string, r *http.Request) error {
	var outputs map[string]string
	if err := json.NewDecoder(r.Body).Decode(&outputs); err != nil {
		return ci.Errorf(ci.Invalid, "cannot read the outputs: send a JSON object of strings: %w", err)
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(outputs)) {
		value := outputs[key]
		if key == "" || strings.ContainsAny(key, "=\r\n") || strings.Contains(key, "<<") {
			return ci.Errorf(ci.Invalid, "cannot set the output %q: a key has no =, << or line break", key)
		}
		end := "EOF"
		for strings.Contains(value, end) {
			end += "_"
		}
		fmt.Fprintf(&text, "%s<<%s\n%s\n%s\n", key, end, value, end)
	}
	return appendOutputs(filepath.Join(dir, "outputs"), text.String())
}

func appendOutputs(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return fmt.Errorf("cannot keep the outputs: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size()+int64(len(text)) > logpath.MaxReport {
		return ci.Errorf(ci.Invalid, "cannot keep the outputs: they would be above %d bytes in all", logpath.MaxReport)
	}
	if _, err := f.WriteString(text); err != nil {
		return fmt.Errorf("cannot keep the outputs: %w", err)
	}
	return nil
}

// saveReport replaces report.json, by rename, so that nobody reads half of it.
func saveReport(dir string, r *http.Request) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return ci.Errorf(ci.Invalid, "cannot read the report: %w", err)
	}
	if _, err := logpath.ParseReport(raw); err != nil {
		return err
	}
	part, err := os.CreateTemp(dir, ".report-*")
	if err != nil {
		return fmt.Errorf("cannot keep the report: %w", err)
	}
	defer os.Remove(part.Name())
	_, err = part.Write(raw)
	if closing := part.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(part.Name(), filepath.Join(dir, "report.json"))
	}
	if err != nil {
		return fmt.Errorf("cannot keep the report: %w", err)
	}
	return nil
}
