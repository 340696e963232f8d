package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/slipway-ci/slipway/agent/stepinit"
)

func TestMain(m *testing.M) {
	stepinit.MaybeMain() // fleets of these tests start this binary as the parent of steps
	testscript.Main(m, map[string]func(){"slipway": main})
}

// TestScripts runs testdata/script: the real command line, without a server.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			env.Setenv("GIT_AUTHOR_NAME", "t")
			env.Setenv("GIT_AUTHOR_EMAIL", "t@example.com")
			env.Setenv("GIT_COMMITTER_NAME", "t")
			env.Setenv("GIT_COMMITTER_EMAIL", "t@example.com")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": exits},
	})
}

// exits runs a command and demands its exit code: exits CODE PROGRAM ARGS...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	err := ts.Exec("sh", append([]string{"-c", `"$@"; got=$?; echo "exit code $got" >&2; [ $got -eq ` + args[0] + ` ]`, "sh"}, args[1:]...)...)
	if err != nil {
		ts.Fatalf("%v did not exit with %s: %s", args[1:], args[0], ts.ReadFile("stderr"))
	}
}

// TestEveryVerbIsDocumented holds docs/cli.md to the tree of commands.
func TestEveryVerbIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	missing := undocumented(newCLI(nil, os.Stdout, os.Stderr).command(), string(text))
	for _, m := range missing {
		t.Errorf("docs/cli.md says nothing of %s", m)
	}
}
