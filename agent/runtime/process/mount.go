package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-ci/slipway/agent/runtime"
	"github.com/slipway-ci/slipway/shared/ci"
)

// areas are the folders in which a mount may be made as a symbolic link: the
// attempt's own. The host outside is never touched.
func areas(s runtime.Spec) []string {
	var out []string
	for _, dir := range []string{s.Dir, s.WorkDir} {
		if filepath.IsAbs(dir) && filepath.Clean(dir) != "/" {
			out = append(out, filepath.Clean(dir))
		}
	}
	for _, m := range s.Mounts {
		if m.Source == m.Target && !m.ReadOnly && filepath.Clean(m.Target) != "/" {
			out = append(out, filepath.Clean(m.Target))
		}
	}
	return out
}

// area finds the attempt's folder that target lies below.
func area(s runtime.Spec, target string) (root, rest string, ok bool) {
	for _, a := range areas(s) {
		if below, found := strings.CutPrefix(filepath.Clean(target), a+"/"); found {
			return a, below, true
		}
	}
	return "", "", false
}

// checkMounts refuses what cannot be done, before anything is made.
func checkMounts(s runtime.Spec) error {
	for _, m := range s.Mounts {
		if m.Source == m.Target {
			continue
		}
		if _, _, ok := area(s, m.Target); !ok {
			return problem(ci.ReasonCache, "cannot mount %s at %s: a process step can only mount below its workspace; "+
				"give a path relative to it, or run the step in an image", m.Source, m.Target)
		}
	}
	return nil
}

// link makes the mounts. They are made at the start, when the workspace has its
// files, and not before.
func link(s runtime.Spec) error {
	for _, m := range s.Mounts {
		if m.Source == m.Target {
			continue
		}
		if err := linkOne(s, m); err != nil {
			return &runtime.Problem{Reason: ci.ReasonCache, Err: fmt.Errorf("cannot mount at %s: %w", m.Target, err)}
		}
	}
	return nil
}

func linkOne(s runtime.Spec, m runtime.Mount) (err error) {
	dir, rest, ok := area(s, m.Target)
	if !ok {
		return errors.New("a process step can only mount below its workspace")
	}
	// A link in a checked-out tree must not lead us out of it.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if parent := filepath.Dir(rest); parent != "." {
		if err := root.MkdirAll(parent, 0o755); err != nil {
			return err
		}
	}
	if to, err := root.Readlink(rest); err == nil && to == m.Source {
		return nil
	}
	// Only an empty folder gives way, as a mount would cover it.
	if err := root.Remove(rest); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is something in the workspace: %w", err)
	}
	return root.Symlink(m.Source, rest)
}
