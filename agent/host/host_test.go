package host

import (
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	t.Parallel()
	i, err := Read(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := i.Capacity
	if i.BootID == "" || i.Hostname == "" || c.MilliCPU < 1000 || c.Memory < 64<<20 || c.Disk <= 0 || c.Pids < 1 {
		t.Errorf("%+v", i)
	}
	again, err := Read(t.TempDir())
	if err != nil || again.BootID != i.BootID {
		t.Errorf("boot %s, then %s, %v", i.BootID, again.BootID, err)
	}
	if _, err := Read("/no/such/folder"); err == nil {
		t.Error("the disk of a folder that is not there has a size")
	}
	if f := DiskFree(t.TempDir()); f <= 0 || f > 1 {
		t.Errorf("%v of the disk is free", f)
	}
	if f := DiskFree("/no/such/folder"); f != 0 {
		t.Errorf("%v of no disk is free", f)
	}
}

func TestTags(t *testing.T) {
	t.Parallel()
	got := Info{Hostname: "h"}.Tags("27.1", map[string]string{"pool": "big", "hostname": "mine"})
	want := map[string]string{"os": runtime.GOOS, "arch": runtime.GOARCH, "docker": "27.1", "pool": "big", "hostname": "mine"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, ok := (Info{}).Tags("", nil)["docker"]; ok {
		t.Error("a host without Docker has its tag")
	}
}

func TestBoottime(t *testing.T) {
	t.Parallel()
	a, b := Boottime(), Boottime()
	if a <= 0 || b < a {
		t.Errorf("%s, then %s", a, b)
	}
}
