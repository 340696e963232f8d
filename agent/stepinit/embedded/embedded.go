// Package embedded carries the program slipway-init inside slipway: `make build`
// puts it into the folder bin before it compiles what embeds that folder. A plain
// `go build` or `go run` finds the folder empty; the agent then uses itself as the
// parent of process steps, and containers go without.
package embedded

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// "all:" because the folder must not be empty for the compiler, and what keeps
// it in git begins with a dot.
//
//go:embed all:bin
var files embed.FS

const name = "slipway-init"

// Extract writes slipway-init into the folder dir, unless the very same program
// is there already, and returns its path, which no other version ever has: what
// runs an older one finds it where it was. It returns "" and no error when this
// build carries none.
func Extract(dir string) (string, error) {
	return extract(files, dir)
}

func extract(from fs.FS, dir string) (string, error) {
	program, err := fs.ReadFile(from, "bin/"+name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the embedded %s: %w", name, err)
	}
	return Place(program, dir)
}

// Place does for any slipway-init what Extract does for the embedded one.
func Place(program []byte, dir string) (string, error) {
	sum := sha256.Sum256(program)
	path := filepath.Join(dir, name+"-"+hex.EncodeToString(sum[:8]))
	there, err := os.ReadFile(path)
	if info, statErr := os.Stat(path); err == nil && statErr == nil && info.Mode().Perm() == 0o755 && bytes.Equal(there, program) {
		return path, nil
	}
	if err := replace(path, program); err != nil {
		return "", fmt.Errorf("cannot write %s: %w", path, err)
	}
	return path, nil
}

// replace puts a program in place by rename: the old one may be running.
func replace(path string, program []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), name+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone by rename when all went well
	_, err = f.Write(program)
	if err = errors.Join(err, f.Chmod(0o755), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
