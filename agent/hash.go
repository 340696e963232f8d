package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/slipway-ci/slipway/shared/ci"
)

// hashFiles is hash() of a cache key: a short sum over names and contents of
// the files below the workspace that the globs match. No file is no error: the
// key is then that of none. Globs and links cannot leave the workspace.
func hashFiles(workspace string, globs []string) (string, error) {
	root, err := os.OpenRoot(workspace)
	if err != nil {
		return "", err
	}
	defer func() { _ = root.Close() }()
	var files []string
	for _, glob := range globs {
		if !doublestar.ValidatePattern(glob) || !fs.ValidPath(glob) {
			return "", ci.Errorf(ci.Invalid, "%q is not a pattern of files below the workspace", glob)
		}
		found, err := doublestar.Glob(root.FS(), glob, doublestar.WithFilesOnly(), doublestar.WithNoFollow())
		if err != nil {
			return "", err
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	sum := sha256.New()
	for _, name := range slices.Compact(files) {
		if info, err := root.Lstat(name); err != nil || !info.Mode().IsRegular() {
			continue // a pipe would never end, and a link is not a content
		}
		if err := addFile(sum, root, name); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

func addFile(sum io.Writer, root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	one := sha256.New()
	if _, err := io.Copy(one, f); err != nil {
		return err
	}
	_, err = fmt.Fprintf(sum, "%s\x00%x\n", name, one.Sum(nil))
	return err
}
