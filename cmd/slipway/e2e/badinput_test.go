//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// poisoned are workflow files that must be refused, and where, and how.
func poisoned() map[string]struct{ yaml, at, says string } {
	repeat := strings.Repeat
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, repeat(fmt.Sprintf("*%c,", c-1), 9))
	}
	const top = "timeout: 1m\ndefaults: { executor: process }\n"
	return map[string]struct{ yaml, at, says string }{
		"empty":              {"", "1:1", "empty"},
		"no mapping":         {"- a\n- b\n", "1:1", "must be a mapping"},
		"no steps":           {"name: x\n", "", "steps"},
		"broken YAML":        {"steps:\n  - run: 'open\n", "2:10", ""},
		"tab":                {"steps:\n\t- run: x\n", "2:1", "a tab cannot indent"},
		"unknown key":        {top + "stpes: []\nsteps: [{ run: x }]\n", "3:1", "steps"},
		"unknown step key":   {top + "steps:\n  - rnu: make\n", "4:5", "run"},
		"twice":              {top + "steps: [{ run: x }]\nsteps: [{ run: y }]\n", "4:1", "already there in line 3"},
		"wrong type":         {top + "steps: [{ run: x, timeout: [1] }]\n", "3:28", "duration"},
		"wrong value":        {top + "steps: [{ run: x, pull: sometimes, image: 'a:1' }]\n", "3:25", "sometimes"},
		"cycle":              {top + "steps: [{ id: a, needs: [b], run: x }, { id: b, needs: [a], run: x }]\n", "", "wait for each other"},
		"unknown need":       {top + "steps: [{ id: lint, run: x }, { id: b, needs: [lnit], run: x }]\n", "3:48", "lint"},
		"same id":            {top + "steps:\n- { id: a, run: x }\n- { id: a, run: x }\n", "5:9", "a"},
		"bad expression":     {top + "steps: [{ run: x, if: 'params.nope == 1' }]\n", "3:31", "nope"},
		"unclosed template":  {top + "env: { A: '${{ run.id' }\nsteps: [{ run: x }]\n", "3:12", ""},
		"untrusted":          {"timeout: 1m\nsteps: [{ run: x, image: 'a:${{ ref.name }}' }]\n", "2:33", "ref.name"},
		"bad pattern":        {top + "params: { a: { type: string, pattern: '(' } }\nsteps: [{ run: x }]\n", "3:39", ""},
		"number for text":    {top + "env: { GO: 1.20 }\nsteps: [{ run: x }]\n", "3:12", `write "1.20"`},
		"docker: host":       {"timeout: 1m\nsteps: [{ run: x, image: 'a:1', docker: host }]\n", "2:41", "not available yet"},
		"alias bomb":         {bomb, "", "more than 50000 values"},
		"alias loop":         {"steps: &s [*s]\n", "", "is part of what it stands for"},
		"deep flow":          {"steps: " + repeat("[", 40_000), "", "nested deeper than 32 levels"},
		"deep block":         {repeat("- ", 40_000) + "a", "", "nested deeper than 32 levels"},
		"100000 steps":       {top + "steps:\n" + repeat("- run: x\n", 100_000), "", "at most 50000"},
		"2001 steps":         {top + "steps:\n" + repeat("- run: x\n", 2_001), "", "more than 2000 steps"},
		"1 MB in a variable": {top + "env: { A: '" + repeat("x", 1_000_000) + "' }\nsteps: [{ run: x }]\n", "3:6", "more than 256 KiB"},
		"too big":            {"#" + repeat("x", 1<<20) + "\nsteps: [{ run: x }]\n", "", "at most 1024 KiB"},
		"not UTF-8":          {"name: \xff\xfe\n", "1:7", "not valid UTF-8"},
		"NUL":                {"name: a\x00b\n", "1:", "control character"},
		"UTF-16":             {"\xff\xfes\x00t\x00", "1:", "not valid UTF-8"},
		"two documents":      {top + "steps: [{ run: x }]\n---\nsteps: []\n", "", "a second document"},
		"unknown tag":        {top + "steps: [!!python/object { run: x }]\n", "3:9", ""},
	}
}

// notYet are the keys of the format that this version refuses by name.
func notYet() map[string]string {
	all := map[string]string{}
	for _, key := range []string{"concurrency", "priority", "skip_if_passed", "include", "environments", "notify", "matrix", "services", "secrets"} {
		all[key] = "timeout: 1m\n" + key + ": {}\nsteps: [{ run: x, image: 'a:1' }]\n"
	}
	for _, key := range []string{"push", "pull_request", "tag", "schedule", "workflow", "environment"} {
		all["on."+key] = "timeout: 1m\non: { " + key + ": {} }\nsteps: [{ run: x, image: 'a:1' }]\n"
	}
	for _, key := range []string{
		"matrix", "shards", "services", "secrets", "block", "trigger", "environment", "concurrency", "priority", "uses", "with", "notify",
		"tests", "annotations", "id_tokens", "registry_auth", "if_changed", "affinity", "on_disconnect", "lost_after", "exclusive",
		"network", "manual_retry", "inputs", "deploy",
	} {
		all["step "+key] = "timeout: 1m\nsteps:\n  - { run: x, image: 'a:1', " + key + ": 1 }\n"
	}
	return all
}

// place finds FILE:LINE:COLUMN in what was said.
var place = regexp.MustCompile(`bad\.yaml:(\d+:\d+): error`)

// refusedWith demands exit code 7, a place, and the words.
func (r result) refusedWith(t *testing.T, at, says string) {
	t.Helper()
	text := r.stdout + r.stderr
	if len(text) > 20_000 {
		t.Errorf("it says %d bytes", len(text))
		text = text[:2000]
	}
	if r.code != 7 {
		t.Errorf("exit code %d, want 7: slipway %v\n%s", r.code, r.args, text)
	}
	m := place.FindStringSubmatch(text)
	if m == nil || !strings.HasPrefix(m[1], at) {
		t.Errorf("the place is %v, want %q\n%s", m, at, text)
	}
	if !strings.Contains(text, says) {
		t.Errorf("it does not say %q:\n%s", says, text)
	}
}

// TestE2EPoison sends what somebody could send to hurt the fleet (P17): each is
// refused at lint and at submit alike, with its place, and the fleet goes on.
func TestE2EPoison(t *testing.T) {
	t.Parallel()
	f := startFleet(t, noDocker())
	f.passes(head + "steps: [{ id: a, run: exit 0 }]\n")
	before := f.rss()
	slowest, slowestOf := time.Duration(0), ""
	for name, tt := range poisoned() {
		t.Run(name, func(t *testing.T) {
			f := f.as(t)
			file := f.write("bad.yaml", tt.yaml)
			f.do("lint", file).refusedWith(t, tt.at, tt.says)
			begin := time.Now()
			res := f.do("run", "-f", file)
			if took := time.Since(begin); took > slowest {
				slowest, slowestOf = took, name
			}
			res.refusedWith(t, tt.at, tt.says)
			if res.stdout != "" {
				t.Errorf("a refused submit prints %q", res.stdout)
			}
		})
	}
	for name, yaml := range notYet() {
		t.Run(name, func(t *testing.T) {
			f := f.as(t)
			file := f.write("bad.yaml", yaml)
			f.do("lint", file).refusedWith(t, "", "not available yet")
			f.do("run", "-f", file).refusedWith(t, "", "not available yet")
		})
	}
	if ids := strings.Fields(f.must("runs", "ls", "-o", "name").stdout); len(ids) != 1 {
		t.Errorf("there are %d runs, want the first alone", len(ids))
	}
	f.passes(head + "steps: [{ id: a, run: exit 0 }]\n")
	t.Logf("%d poisoned files; the slowest submit took %s (%s); the fleet's RSS %s before, %s after",
		len(poisoned())+len(notYet()), slowest.Round(time.Millisecond), slowestOf, before, f.rss())
}

// write puts a file into a folder of its own and returns its path.
func (f *fleet) write(name, text string) string {
	f.t.Helper()
	dir, err := os.MkdirTemp(f.home, "f")
	if err != nil {
		f.t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// TestE2ELintLimits: what is just within the caps is read with little memory. It
// does not run beside others: until its exec a child counts as big as this test.
func TestE2ELintLimits(t *testing.T) {
	f := &fleet{t: t, home: t.TempDir()}
	var err error
	if f.bin, err = binary(); err != nil {
		t.Fatal(err)
	}
	lines := head + "steps:\n"
	for i := range 1999 {
		lines += fmt.Sprintf("- { id: s%d, if: \"run.id != '%d'\", run: 'echo %s' }\n", i, i, strings.Repeat("x", 400))
	}
	for name, tt := range map[string]struct {
		yaml string
		code int
	}{
		"as much as fits": {lines, 0},
		"a bomb":          {poisoned()["alias bomb"].yaml, 7},
		"too many steps":  {poisoned()["100000 steps"].yaml, 7},
		"a megabyte":      {poisoned()["1 MB in a variable"].yaml, 7},
	} {
		cmd := f.command("lint", f.write("bad.yaml", tt.yaml))
		begin := time.Now()
		res := f.finish(cmd)
		took := time.Since(begin)
		usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		if !ok {
			t.Fatal("the system tells no usage")
		}
		t.Logf("%s (%d KiB): lint took %s, %s of processor, at most %d MiB", name, len(tt.yaml)>>10,
			took.Round(time.Millisecond), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Round(time.Millisecond), usage.Maxrss>>10)
		if res.code != tt.code {
			t.Errorf("%s: exit code %d, want %d\n%.2000s", name, res.code, tt.code, res.stdout+res.stderr)
		}
		if usage.Maxrss>>10 > 200 { // the program itself, and the 64 MiB of the promise
			t.Errorf("%s: %s MiB", name, strconv.FormatInt(usage.Maxrss>>10, 10))
		}
	}
}
