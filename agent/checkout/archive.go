package checkout

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-ci/slipway/shared/ci"
)

// Caps of a source archive: what a hostile one may cost at most.
const (
	maxArchiveBytes = 8 << 30
	maxArchiveFiles = 1_000_000
)

// unpack puts a source archive into target. Every path goes through os.Root,
// so that no name and no link leads out of the workspace.
func (m *Manager) unpack(ctx context.Context, req Request, target string, tell func(string)) error {
	begun := time.Now()
	if m.cfg.Archive == nil {
		return errors.New("cannot fetch the source archive: this agent has no bucket")
	}
	in, err := m.cfg.Archive(ctx, req.Tenant, req.Source.Archive)
	if err != nil {
		return fmt.Errorf("cannot fetch the source archive: %w", err)
	}
	defer in.Close()
	root, err := os.OpenRoot(target)
	if err != nil {
		return fmt.Errorf("cannot open the workspace: %w", err)
	}
	defer root.Close()
	sum := sha256.New()
	body := io.TeeReader(in, sum)
	files, err := extract(ctx, root, body)
	if err != nil {
		return fmt.Errorf("cannot unpack the source archive: %w", err)
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return fmt.Errorf("cannot read the source archive: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != req.Source.Archive {
		return ci.Errorf(ci.Invalid, "the source archive has sha256 %s, not %s: send it again", got, req.Source.Archive)
	}
	tell(fmt.Sprintf("unpacked %d files of the work tree in %.1f s", files, time.Since(begun).Seconds()))
	return nil
}

func extract(ctx context.Context, root *os.Root, r io.Reader) (int, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return 0, err
	}
	defer z.Close()
	in := tar.NewReader(z)
	left := int64(maxArchiveBytes)
	for n := 0; ; n++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if left -= h.Size; left < 0 || n >= maxArchiveFiles {
			return n, fmt.Errorf("it holds more than %d bytes or %d files", int64(maxArchiveBytes), maxArchiveFiles)
		}
		if err := ctx.Err(); err != nil {
			return n, err
		}
		if err := extractOne(root, in, h); err != nil {
			return n, fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func extractOne(root *os.Root, in io.Reader, h *tar.Header) error {
	name := path.Clean(h.Name)
	if !fs.ValidPath(name) {
		return errors.New("its name leads out of the workspace")
	}
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fs.FileMode(h.Mode).Perm()|0o600)
		if err != nil {
			return err
		}
		if _, err := io.Copy(f, in); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	}
	return fmt.Errorf("an archive of sources holds files, folders and links only, not type %q", h.Typeflag)
}
