package logship

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/logpath"
	"github.com/slipway-ci/slipway/shared/objectstore"
)

// The list of artifacts travels through the replicated log, whose entries are
// small: whoever keeps more files packs them into one.
const (
	maxArtifacts     = 1000
	maxArtifactPaths = 64 << 10 // bytes of all paths
)

// Artifacts uploads the files below workspace that specs name, and returns
// them. Patterns are doublestar globs; one that names a folder takes all of it.
// Links that leave the workspace, devices, sockets and pipes are refused, each
// with a line through warn, as are patterns that find nothing. An error means
// that the artifacts are not whole, and is final; the store is waited for.
func (s *Shipper) Artifacts(ctx context.Context, at logpath.Path, workspace string, specs []ci.ArtifactSpec, warn func(format string, args ...any)) ([]ci.Artifact, error) {
	root, err := os.OpenRoot(workspace)
	if err != nil {
		return nil, fmt.Errorf("cannot collect artifacts: %w", err)
	}
	defer func() { _ = root.Close() }()
	c := collector{root: root, workspace: workspace, warn: warn, names: map[string]string{}}
	for _, spec := range specs {
		for _, pattern := range spec.Paths {
			if err := c.glob(ctx, spec.Name, pattern); err != nil {
				return nil, err
			}
		}
	}
	found := make([]ci.Artifact, 0, len(c.order))
	for _, name := range c.order {
		a, err := s.upload(ctx, at.Artifact(name), root, c.names[name])
		if err != nil {
			return found, ci.Errorf(ci.KindOf(err), "cannot keep artifact %s: %w", name, err)
		}
		a.Path = name
		found = append(found, a)
	}
	return found, nil
}

// collector finds the files; names maps an artifact's path to the file.
type collector struct {
	root      *os.Root
	workspace string
	warn      func(format string, args ...any)
	names     map[string]string
	order     []string
	bytes     int
}

func (c *collector) glob(ctx context.Context, prefix, pattern string) error {
	clean := pattern
	if filepath.IsAbs(clean) {
		rel, err := filepath.Rel(c.workspace, clean)
		if err != nil {
			rel = ".."
		}
		clean = rel
	}
	clean = path.Clean(filepath.ToSlash(clean))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		c.warn("artifacts: %s is outside of the workspace and is left out", pattern)
		return nil
	}
	before := len(c.order)
	err := doublestar.GlobWalk(c.root.FS(), clean, func(name string, d fs.DirEntry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.IsDir() {
			return c.folder(ctx, prefix, name)
		}
		return c.file(prefix, name)
	}, doublestar.WithNoFollow())
	if err != nil {
		return fmt.Errorf("cannot collect artifacts %s: %w", pattern, err)
	}
	if len(c.order) == before {
		c.warn("artifacts: %s matches no file that could be kept", pattern)
	}
	return nil
}

// folder takes everything in a folder that a pattern names.
func (c *collector) folder(ctx context.Context, prefix, dir string) error {
	return fs.WalkDir(c.root.FS(), dir, func(name string, d fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		return c.file(prefix, name)
	})
}

func (c *collector) file(prefix, name string) error {
	info, err := c.root.Stat(name) // follows links, but not out of the root
	switch {
	case err != nil:
		c.warn("artifacts: %s is left out: %s", name, reason(err))
		return nil
	case info.IsDir():
		c.warn("artifacts: %s is left out: it is a link to a folder", name)
		return nil
	case !info.Mode().IsRegular():
		c.warn("artifacts: %s is left out: it is not a regular file", name)
		return nil
	}
	as := path.Clean(path.Join(prefix, name))
	if as == ".." || strings.HasPrefix(as, "../") || path.IsAbs(as) {
		return ci.Errorf(ci.Invalid, "cannot keep artifacts: name %q leads outside of the artifacts", prefix)
	}
	if _, ok := c.names[as]; ok {
		return nil // two patterns name it
	}
	c.names[as] = name
	c.order = append(c.order, as)
	if c.bytes += len(as); len(c.order) > maxArtifacts || c.bytes > maxArtifactPaths {
		return ci.Errorf(ci.Exhausted, "cannot keep artifacts: more than %d files, or %d bytes of names; pack them into an archive", maxArtifacts, maxArtifactPaths)
	}
	return nil
}

// reason says why the workspace does not give a file.
func reason(err error) string {
	var p *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it is a link to nothing"
	case errors.As(err, &p) && strings.Contains(p.Err.Error(), "escapes"):
		return "it is a link that leaves the workspace"
	default:
		return err.Error()
	}
}

// upload puts one file. A file that changes under way is read again, a few times.
func (s *Shipper) upload(ctx context.Context, key string, root *os.Root, name string) (ci.Artifact, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return ci.Artifact{}, ctx.Err()
	}
	var a ci.Artifact
	changed := 0
	err := s.forever(ctx, "put "+key, func() error {
		f, size, err := open(root, name)
		if err != nil {
			return &finalError{err}
		}
		defer func() { _ = f.Close() }()
		sum := sha256.New()
		in := &local{r: io.TeeReader(f, sum)}
		_, err = s.bucket.Put(ctx, key, in, size, objectstore.PutOptions{})
		if in.err != nil {
			return &finalError{fmt.Errorf("cannot read %s: %w", name, in.err)}
		}
		if ci.KindOf(err) == ci.Invalid {
			if changed++; changed == 3 {
				return &finalError{err}
			}
		}
		a = ci.Artifact{Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))}
		return err
	})
	return a, err
}

// local remembers that the agent's own disk failed: no other try mends that.
type local struct {
	r   io.Reader
	err error
}

func (l *local) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		l.err = err
	}
	return n, err
}

// open opens a regular file. What stood at its name a moment ago may be a pipe
// by now, on which an ordinary open would wait for ever.
func open(root *os.Root, name string) (*os.File, int64, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file any more", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}
