package stepinit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-ci/slipway/shared/needs"
)

func TestMain(m *testing.M) {
	MaybeMain()
	needs.NoLeaks(m)
}

// readAll reads a spool to its end.
func readAll(t *testing.T, dir string, off int64) (out []Entry, text string) {
	t.Helper()
	r, f, err := OpenLog(dir, off)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b strings.Builder
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Write(e.Data)
		if !e.Partial {
			b.WriteByte('\n')
		}
		e.Data = bytes.Clone(e.Data)
		out = append(out, e)
	}
}

func TestPump(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxRecord)
	for _, in := range []string{
		"", "\n", "\n\n", "a", "a\n", "a\nb", long, long + "\n", long + "y\n", long + long + "\n" + long + "z",
		strings.Repeat("line\n", 50_000), strings.Repeat("\n", readSize*2), strings.Repeat("ä€", 100_000),
	} {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r },
			"half":  iotest.HalfReader, "data and error": iotest.DataErrReader,
		} {
			s, err := newSpool(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			pump(wrap(strings.NewReader(in)), 0, s)
			entries, got := readAll(t, s.dir, 0)
			if got != in {
				t.Errorf("%s: %d bytes become %d, or others", name, len(in), len(got))
			}
			for _, e := range entries {
				if len(e.Data) > MaxRecord {
					t.Errorf("a record of %d bytes", len(e.Data))
				}
			}
			if lost, err := s.close(); lost != 0 || err != nil {
				t.Errorf("close: %d lost, %v", lost, err)
			}
		}
	}
}

// A 200 MB line costs no more memory than a short one.
func TestPumpIsFlat(t *testing.T) {
	// Not parallel: the count is of the whole program.
	s, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = s.close() }()
	s.keep, s.step = 8<<20, 1<<20
	if allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			pump(io.LimitReader(zeros{}, 200<<20), 0, s)
		}
	}).AllocedBytesPerOp(); allocated > 4<<20 {
		t.Errorf("%d bytes for a line of 200 MB", allocated)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestCut(t *testing.T) {
	t.Parallel()
	s, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.keep, s.step = 4<<20, 1<<20
	pump(strings.NewReader(strings.Repeat("early\n", 1000)), 0, s)
	r, f, err := OpenLog(s.dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if e, err := r.Next(); err != nil || string(e.Data) != "early" {
		t.Fatalf("%q, %v", e.Data, err)
	}
	pump(strings.NewReader(strings.Repeat(strings.Repeat("l", 99)+"\n", 100_000)+"end\n"), flagStderr, s)
	if _, err := s.close(); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(LogPath(s.dir), &st); err != nil || st.Blocks*512 > 7<<20 {
		t.Errorf("%d bytes on the disk, %v", st.Blocks*512, err)
	}
	notes, last := 0, ""
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if last = string(e.Data); strings.HasPrefix(last, "slipway: about ") {
			notes++
		}
	}
	if notes != 1 || last != "end" {
		t.Errorf("%d notes, and the last record is %q", notes, last)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	s, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	good := s.f
	pump(strings.NewReader("before\n"), 0, s)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("SKIPPED: needs /dev/full: %v", err)
	}
	defer full.Close()
	s.f = full
	pump(strings.NewReader("gone\ngone\n"), 0, s)
	s.f = good
	pump(strings.NewReader("after\n"), 0, s)
	if lost, err := s.close(); lost != 2*(headSize+4) || err != nil {
		t.Errorf("%d lost, %v", lost, err)
	}
	entries, _ := readAll(t, s.dir, 0)
	if len(entries) != 3 || string(entries[2].Data) != "after" ||
		!strings.Contains(string(entries[1].Data), "bytes of output are missing here") || !entries[1].Stderr {
		t.Errorf("records %+v", entries)
	}
}

func TestTornRecord(t *testing.T) {
	t.Parallel()
	s, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pump(strings.NewReader("one\ntwo\n"), 0, s)
	if err := s.f.Truncate(s.off - 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.close(); err != nil {
		t.Fatal(err)
	}
	r, f, err := OpenLog(s.dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if e, err := r.Next(); err != nil || string(e.Data) != "one" {
		t.Errorf("%q, %v", e.Data, err)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) || !r.Torn() {
		t.Errorf("a torn record: %v, torn %t", err, r.Torn())
	}
	if _, f2, err := OpenLog(s.dir, 5); err == nil {
		defer f2.Close()
	}
}

// step makes a folder for an init.
func step(t *testing.T, argv ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := WriteSpec(dir, Spec{Argv: argv, Env: []string{"PATH=" + os.Getenv("PATH")}, Dir: dir}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// spawn runs an init of this very program.
func spawn(t *testing.T, dir string) {
	t.Helper()
	p, err := Spawn(t.Context(), []string{"/proc/self/exe"}, dir)
	if p != nil {
		t.Cleanup(func() {
			// A test that failed may have left it.
			_ = Stop(context.Background(), dir, Order{Signal: int(unix.SIGKILL)})
			_, _ = p.Wait()
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func finish(t *testing.T, dir string) Exit {
	t.Helper()
	w, err := OpenWatch(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if gone, err := w.Gone(t.Context(), time.Minute); !gone || err != nil {
		t.Fatalf("gone %t, %v", gone, err)
	}
	e, ok, err := ReadExit(dir)
	if err != nil || !ok {
		t.Fatalf("exit record: %t, %v", ok, err)
	}
	return e
}

// What the command inherits is what a login would give: no caught or ignored
// signals, no descriptors, a session of its own, nothing of the init's own.
func TestWhatTheCommandInherits(t *testing.T) {
	t.Parallel()
	dir := step(t, "/bin/sh", "-c", `grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l; env | grep -c SLIPWAY; yes | head -1`)
	spawn(t, dir)
	if e := finish(t, dir); e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
	_, got := readAll(t, dir, 0)
	// The C library's own two (32 and 33) a program that glibc spawned, as make
	// does, finds ignored; Go cannot catch them, and they mean nothing to a command.
	got = regexp.MustCompile(`(?m)^(SigIgn:\t0000000)[01][08](0{7})$`).ReplaceAllString(got, "${1}00$2")
	// ls has the three, and the folder it reads.
	want := "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n4\n0\ny\n"
	if got != want {
		t.Errorf("the command sees\n%s, want\n%s", got, want)
	}
}

func TestSecondInitLeaves(t *testing.T) {
	t.Parallel()
	dir := step(t, "/bin/sh", "-c", "echo ran")
	for range 3 {
		spawn(t, dir)
	}
	finish(t, dir)
	if _, got := readAll(t, dir, 0); got != "ran\n" {
		t.Errorf("output %q", got)
	}
}

// An init that is killed takes its command along, and Sweep the rest.
func TestKilledInit(t *testing.T) {
	t.Parallel()
	dir := step(t, "/bin/sh", "-c", "sleep 600 & echo up; sleep 600")
	spawn(t, dir)
	id, ok, err := ReadIdentity(dir)
	if err != nil || !ok || id.Main == 0 {
		t.Fatalf("identity %+v, %t, %v", id, ok, err)
	}
	if err := unix.Kill(id.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w, err := OpenWatch(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if gone, err := w.Gone(t.Context(), time.Minute); !gone || err != nil {
		t.Fatalf("gone %t, %v", gone, err)
	}
	for end := time.Now().Add(time.Minute); ; {
		n, err := Sweep(id, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d processes do not go", n)
		}
	}
	if _, ok, _ := ReadExit(dir); ok {
		t.Error("a killed init left an exit record")
	}
}

func TestStopByStrangersSIGTERM(t *testing.T) {
	t.Parallel()
	dir := step(t, "/bin/sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done")
	spawn(t, dir)
	id, _, err := ReadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	for tick, end := time.Tick(pause), time.After(time.Minute); ; {
		if b, err := os.ReadFile(LogPath(dir)); err == nil && len(b) > 0 {
			break
		}
		select {
		case <-tick:
		case <-end:
			t.Fatal("no output")
		}
	}
	if err := unix.Kill(id.Pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if e := finish(t, dir); e.Code != 9 || !e.Stopped {
		t.Errorf("exit %+v, want 9, stopped", e)
	}
}

// build makes the program.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "slipway-init")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/slipway-ci/slipway/cmd/slipway-init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build slipway-init: %v\n%s", err, out)
	}
	return program
}

// The program for containers is small, static, and does the same.
func TestProgram(t *testing.T) {
	t.Parallel()
	program := build(t)
	info, err := os.Stat(program)
	if err != nil || info.Size() > 3<<20 {
		t.Errorf("slipway-init has %d bytes, want less than 3 MiB; %v", info.Size(), err)
	}
	dir := step(t, "/bin/sh", "-c", "echo hello; exit 3")
	p, err := Spawn(t.Context(), []string{program}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if e := finish(t, dir); e.Code != 3 {
		t.Errorf("exit %+v, want 3", e)
	}
	if st, err := p.Wait(); err != nil || !st.Success() {
		t.Errorf("the init itself: %v, %v", st, err)
	}
	if _, got := readAll(t, dir, 0); got != "hello\n" {
		t.Errorf("output %q", got)
	}
	if out, err := exec.Command(program).CombinedOutput(); err == nil || !bytes.Contains(out, []byte("usage:")) {
		t.Errorf("without arguments: %v, %s", err, out)
	}
}
