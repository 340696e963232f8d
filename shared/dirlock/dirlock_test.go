package dirlock

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOneHolderAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := Take(path); !errors.Is(err, ErrHeld) {
		t.Errorf("a second holder: %v, %v", second, err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := Take(path)
	if err != nil {
		t.Fatalf("after the release: %v", err)
	}
	if err := again.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := Take(filepath.Join(path, "no", "folder")); err == nil || errors.Is(err, ErrHeld) {
		t.Errorf("in a folder that is not there: %v", err)
	}
}

// A child between fork and exec has every file of its parent open; a second
// descriptor of the same open file stands for it here.
func TestReleaseDoesNotWaitForChildren(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	held, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	dup, err := unix.Dup(int(held.f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	child := os.NewFile(uintptr(dup), "as in a child")
	defer child.Close()
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	next, err := Take(path)
	if err != nil {
		t.Fatalf("a child that only has the file open keeps the lock: %v", err)
	}
	if err := next.Release(); err != nil {
		t.Fatal(err)
	}
}
