package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

// devOptions are the flags of `slipway dev`.
type devOptions struct {
	data     string
	listen   string
	noDocker bool
	open     bool
	example  bool
	verbose  bool
}

func (c *cli) devCommand() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "A whole fleet in one process, on loopback: coordinator, agent, S3 and registry",
		Long: `Run a coordinator, an agent, an S3 server and an image registry in one process.
Everything listens on loopback and lives in one data folder, which survives a
restart. Ctrl-C cancels the steps that run (their default retry rules start them
again with the next start); SIGTERM ends the fleet within two
seconds and lets them run on, for the next start to take up.`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, _, err := net.SplitHostPort(o.listen); err != nil {
				return usagef("cannot listen on %q: it must look like 127.0.0.1:7070, or 127.0.0.1:0 for a free port", o.listen)
			}
			return c.dev(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "data folder (default $XDG_STATE_HOME/slipway/dev)")
	f.StringVar(&o.listen, "listen", "127.0.0.1:7070", "address of the API; port 0 takes a free one")
	f.BoolVar(&o.noDocker, "no-docker", false, "run steps as processes only, also where a Docker engine answers")
	f.BoolVar(&o.open, "open", false, "open the fleet's address in a browser when it is ready")
	f.BoolVar(&o.example, "example", false, "run a small workflow when it is ready")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log what the fleet does")
	return cmd
}

// dev runs the fleet until a signal ends it.
func (c *cli) dev(ctx context.Context, o devOptions) error {
	data, err := openDevData(o.data)
	if err != nil {
		return err
	}
	defer data.close()
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	fleet := &devFleet{
		cli: c, opt: o, data: data,
		log: slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: level})),
	}
	// Without an engine steps run as processes: the fleet is useful all the same.
	fleet.docker = !o.noDocker && dockerAnswers(ctx)
	err = fleet.run(ctx)
	if err == nil && ctx.Err() != nil && !terminated(ctx) {
		return &codeError{code: exitInterrupted}
	}
	return err
}

// announce tells the world that the fleet is ready, once.
func (f *devFleet) announce(ctx context.Context, a announcement) error {
	raw, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(announcementPath()), 0o755); err != nil {
		return fmt.Errorf("cannot announce the fleet: %w", err)
	}
	if err := writeFile(announcementPath(), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	if f.cli.output == "table" {
		f.block(a)
	} else if _, err := fmt.Fprintf(f.cli.out, "%s\n", raw); err != nil {
		return err
	}
	if f.opt.open {
		openBrowser(ctx, a.URL, f.log)
	}
	if f.opt.example {
		return f.runExample(ctx, a)
	}
	return nil
}

// retract takes the announcement away, if it is still this fleet's.
func retract() error {
	raw, err := os.ReadFile(announcementPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var a announcement
	if err != nil || json.Unmarshal(raw, &a) != nil || a.PID != os.Getpid() {
		return err
	}
	return os.Remove(announcementPath())
}

// block prints where everything is and what to do next.
func (f *devFleet) block(a announcement) {
	how := "in containers of Docker " + f.engine + " and as processes"
	if !f.docker {
		how = "as processes; with a Docker engine also in containers"
	}
	st := f.cli.style(f.cli.out)
	fmt.Fprintf(f.cli.out, `%s

  API       %s
  token     %s
  S3        %s, bucket %s
  registry  %s
  data      %s
  steps     %s

next, in a git work tree with .slipway/*.yaml:  slipway run --follow
or write one with:                              slipway init
`, st.bold("The fleet is ready."), a.URL, a.TokenFile, a.S3Endpoint, a.Bucket, a.Registry, a.DataDir, how)
}

// openBrowser asks the desktop to show the address; a host without one is told.
func openBrowser(ctx context.Context, url string, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, opener := range []string{os.Getenv("BROWSER"), "xdg-open", "open"} {
		if opener == "" {
			continue
		}
		if err := exec.CommandContext(ctx, opener, url).Run(); err == nil {
			return
		}
	}
	log.Warn("cannot open a browser: set BROWSER, or go there by hand", "url", url)
}

// exampleWorkflow is what --example runs.
const exampleWorkflow = `name: example
timeout: 5m
steps:
  - id: hello
    executor: process
    run: |
      echo "hello from $SLIPWAY_STEP of run $SLIPWAY_RUN_ID"
      echo "greeting=hello" >> "$SLIPWAY_REPORT_DIR/outputs"
    outputs: [greeting]
  - id: answer
    executor: process
    run: echo "the step before said $STEP_HELLO_GREETING"
`

// runExample submits the sample and follows it, on standard error where
// standard output belongs to the announcement.
func (f *devFleet) runExample(ctx context.Context, a announcement) error {
	cl, err := f.client(a)
	if err != nil {
		return err
	}
	res, err := cl.runs.SubmitRun(ctx, &pb.SubmitRunRequest{WorkflowYaml: exampleWorkflow, File: "example.yaml"})
	if err != nil {
		return fmt.Errorf("cannot run the example: %w", err)
	}
	show := *f.cli
	if show.output != "table" {
		show.out, show.output = show.err, "table"
	}
	return show.follow(ctx, cl, res.GetRun(), followLogs)
}
