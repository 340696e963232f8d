package docker

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// own makes folders writable for the image's user. A numeric user gets them; a
// name means nothing on the host, so the folders are opened for all.
func own(dirs []string, user string) error {
	uid, gid, numeric := parseUser(user)
	if numeric && uid == 0 {
		return nil
	}
	for _, dir := range dirs {
		var err error
		if numeric && os.Geteuid() == 0 {
			err = give(dir, uid, gid)
		} else {
			err = openUp(dir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parseUser reads the user of an image: empty, "1000", "1000:100" or names. The
// group is -1 where it is not a number.
func parseUser(user string) (uid, gid int, numeric bool) {
	u, g, _ := strings.Cut(user, ":")
	if u == "" || u == "root" {
		return 0, 0, true
	}
	uid, err := strconv.Atoi(u)
	if err != nil || uid < 0 {
		return 0, 0, false
	}
	if gid, err = strconv.Atoi(g); err != nil {
		gid = -1
	}
	return uid, gid, true
}

// give hands a folder and what is in it to a user. One that belongs to the user
// already is left alone: a cache may be large.
func give(dir string, uid, gid int) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == uid {
		return nil
	}
	return walk(dir, func(path string, _ fs.DirEntry) error {
		// The folder itself last: a crash before that starts over.
		if path == dir {
			return nil
		}
		return os.Lchown(path, uid, gid)
	}, func() error { return os.Lchown(dir, uid, gid) })
}

func openUp(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm() == 0o777 {
		return nil
	}
	return walk(dir, func(path string, d fs.DirEntry) error {
		info, err := d.Info()
		if err != nil || path == dir || info.Mode()&fs.ModeSymlink != 0 {
			return err
		}
		more := fs.FileMode(0o666)
		if d.IsDir() || info.Mode()&0o100 != 0 {
			more = 0o777
		}
		return os.Chmod(path, info.Mode().Perm()|more)
	}, func() error { return os.Chmod(dir, 0o777) })
}

func walk(dir string, each func(string, fs.DirEntry) error, last func() error) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = each(path, d)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		}
		return err
	})
	if err != nil {
		return err
	}
	return last()
}
