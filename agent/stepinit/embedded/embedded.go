// Package embedded carries the program slipway-init inside slipway: `make build`
// puts it into the folder bin before it compiles what embeds that folder. A plain
// `go build` or `go run` finds the folder empty, and the agent then uses itself.
package embedded

import (
	"bytes"
	"embed"
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
// is there already, and returns its path. It returns "" and no error when this
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
	path := filepath.Join(dir, name)
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, program) {
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
