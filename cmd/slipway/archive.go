package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
	"github.com/slipway-ci/slipway/shared/ci"
)

// uploadTree ships the work tree as it is, changes and new files included,
// and returns the archive's sha256. The same content has the same name, so it
// travels once.
func uploadTree(ctx context.Context, cl *client, t *gitTree, tenant string) (string, error) {
	list, err := git(ctx, t.root, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp("", "slipway-src-*.tar.zst")
	if err != nil {
		return "", fmt.Errorf("cannot pack the work tree: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	hash := sha256.New()
	if err := packTree(io.MultiWriter(file, hash), t.root, strings.Split(list, "\x00")); err != nil {
		return "", fmt.Errorf("cannot pack the work tree %s: %w", t.root, err)
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	length, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return "", fmt.Errorf("cannot pack the work tree: %w", err)
	}
	res, err := cl.runs.CreateUpload(ctx, &pb.CreateUploadRequest{Sha256: sum, Size: float64(length), Tenant: tenant})
	if err != nil || res.GetExists() {
		return sum, err
	}
	return sum, putFile(ctx, res.GetUrl(), file, length)
}

// packTree writes the files, in order and without times, as tar.zst.
func packTree(w io.Writer, root string, paths []string) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	out := tar.NewWriter(z)
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		if p == "" {
			continue
		}
		if err := packFile(out, root, p); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return z.Close()
}

func packFile(out *tar.Writer, root, path string) error {
	full := filepath.Join(root, path)
	info, err := os.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // deleted in the work tree, still in the index
	}
	if err != nil {
		return err
	}
	h := &tar.Header{Name: path, Mode: int64(info.Mode().Perm()), Format: tar.FormatPAX}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(full); err != nil {
			return err
		}
		return out.WriteHeader(h)
	case info.IsDir():
		return nil // a submodule's folder: its content belongs to another repository
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is a %s, which no archive of sources can hold; ignore it or delete it", path, info.Mode().Type())
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	in, err := os.Open(full)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(out, in)
	return err
}

func putFile(ctx context.Context, url string, file *os.File, length int64) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cannot send the work tree: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, io.NopCloser(file))
	if err != nil {
		return fmt.Errorf("cannot send the work tree: %w", err)
	}
	req.ContentLength = length
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return ci.Errorf(ci.Unavailable, "cannot send the work tree: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 500))
		return ci.Errorf(ci.Unavailable, "cannot send the work tree: the store says %s: %s", res.Status, text)
	}
	return nil
}
