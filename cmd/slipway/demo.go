package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-ci/slipway/shared/lifecycle"
)

// demo does the main job as a user would, with this very binary: every line
// that begins with $ is a command that really runs.
type demo struct {
	c      *cli
	self   string // this binary
	root   string // the clone
	dir    string // everything temporary
	docker bool
	fleet  *exec.Cmd
	told   announcement
	env    []string
	rows   [][]string
	run    string // id of the first run
	images map[string]bool
}

func (c *cli) demoCommand() *cobra.Command {
	var noDocker bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "The main job in a temporary fleet: Slipway builds itself (needs a clone of it)",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			d := &demo{c: c}
			defer func() { err = errors.Join(err, d.cleanUp()) }()
			return d.play(cmd.Context(), noDocker)
		},
	}
	cmd.Flags().BoolVar(&noDocker, "no-docker", false, "run the steps as processes, also where a Docker engine answers")
	return cmd
}

// play is the demo from beginning to end.
func (d *demo) play(ctx context.Context, noDocker bool) error {
	begun := time.Now()
	if err := d.prepare(ctx, noDocker); err != nil {
		return err
	}
	if err := d.startFleet(ctx); err != nil {
		return err
	}
	for _, scene := range []func(context.Context) error{
		d.cold, d.skipStep, d.fetchArtifact, d.showStatus, d.retryStep, d.warm, d.showAudit,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	d.title("What it did")
	d.row("all of it", time.Since(begun), "nothing is left behind: the fleet, its data and its images go now")
	return writeTable(d.c.out, []string{"WHAT", "TOOK", "RESULT"}, d.rows)
}

func (d *demo) title(text string) {
	fmt.Fprintf(d.c.out, "\n%s\n", d.c.style(d.c.out).bold("── "+text))
}

func (d *demo) row(what string, took time.Duration, result string) {
	d.rows = append(d.rows, []string{what, short(took), result})
}

// prepare finds the clone, the engine and, with one, makes the step image.
func (d *demo) prepare(ctx context.Context, noDocker bool) error {
	tree, err := readTree(ctx, ".", "")
	if err != nil {
		return err
	}
	if tree == nil || tree.sha == "" {
		return usagef("the demo runs Slipway's own workflow on its own commit: go to a clone of it")
	}
	d.root = tree.root
	if d.self, err = os.Executable(); err != nil {
		return err
	}
	// short, for sockets of the tests that run below it have at most 108 bytes
	if d.dir, err = os.MkdirTemp("", "slipway-"); err != nil {
		return err
	}
	d.images = dockerImages(ctx)
	d.docker = !noDocker && dockerAnswers(ctx)
	if !d.docker {
		fmt.Fprintln(d.c.out, "steps run as processes, for no Docker engine is used; with one (deploy/docker-engine.sh starts it) they run in containers")
		return nil
	}
	d.title("The step image, made of this host's own Go, git and docker client")
	begun := time.Now()
	if err := d.program(ctx, filepath.Join(d.root, "deploy", "demo-image.sh")); err != nil {
		return err
	}
	d.row("step image", time.Since(begun), "slipway-demo/go:latest")
	return nil
}

// dockerAnswers asks the engine for a sign of life.
func dockerAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", dockerSocket())
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return false
	}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func dockerSocket() string {
	if path, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://"); ok {
		return path
	}
	return "/var/run/docker.sock"
}

// startFleet starts a fleet of its own and waits for its announcement.
func (d *demo) startFleet(ctx context.Context) error {
	d.title("A fleet: coordinator, agent, S3 and registry in one process")
	begun := time.Now()
	args := []string{"dev", "--data", filepath.Join(d.dir, "d"), "--listen", "127.0.0.1:0", "-o", "json"}
	if !d.docker {
		args = append(args, "--no-docker")
	}
	logFile, err := os.Create(filepath.Join(d.dir, "dev.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	d.fleet = exec.Command(d.self, args...) // not bound to ctx: it is stopped by a signal
	d.fleet.Stderr = logFile
	d.fleet.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(d.dir, "state"))
	d.fleet.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT} // Ctrl-C reaches it once, from here
	out, err := d.fleet.StdoutPipe()
	if err != nil {
		return err
	}
	if err := d.fleet.Start(); err != nil {
		return err
	}
	line, err := firstLine(ctx, out)
	if err == nil {
		err = json.Unmarshal(line, &d.told)
	}
	if err != nil {
		text, _ := os.ReadFile(logFile.Name())
		return fmt.Errorf("the fleet did not start: %w\n%s", err, bytes.TrimSpace(text))
	}
	token, err := readToken(d.told.TokenFile)
	if err != nil {
		return err
	}
	d.env = append(os.Environ(), "SLIPWAY_URL="+d.told.URL, "SLIPWAY_TOKEN="+token)
	d.row("fleet ready", time.Since(begun), d.told.URL)
	return d.slipway(ctx, "agent", "ls")
}

// firstLine reads one line, or gives up with the context.
func firstLine(ctx context.Context, out interface{ Read([]byte) (int, error) }) ([]byte, error) {
	type answer struct {
		line []byte
		err  error
	}
	got := make(chan answer, 1)
	tasks := lifecycle.NewTasks(context.Background())
	tasks.Go("first line", func(context.Context) {
		line, err := bufio.NewReader(out).ReadBytes('\n')
		got <- answer{line, err}
	})
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	select {
	case a := <-got:
		return a.line, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, errors.New("it said nothing for a minute")
	}
}

// slipway runs a command of this binary, shown and live.
func (d *demo) slipway(ctx context.Context, args ...string) error {
	fmt.Fprintf(d.c.out, "%s\n", d.c.style(d.c.out).dim("$ slipway "+shellWords(args)))
	return d.program(ctx, d.self, args...)
}

// shellWords writes arguments as one would type them.
func shellWords(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = a
		if strings.ContainsAny(a, " \t*?$'\"") {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// ask runs a command of this binary and returns what it printed.
func (d *demo) ask(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, d.self, args...)
	cmd.Env, cmd.Dir, cmd.Stderr = d.env, d.root, d.c.err
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("slipway %s: %w", strings.Join(args, " "), err)
	}
	return out, nil
}

func (d *demo) program(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = d.env, d.root, d.c.out, d.c.err
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", filepath.Base(name), strings.Join(args, " "), err)
	}
	return nil
}

// code runs a command and returns its exit code.
func (d *demo) code(ctx context.Context, args ...string) (int, error) {
	err := d.slipway(ctx, args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}
