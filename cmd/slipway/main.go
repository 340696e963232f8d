// Command slipway is the whole of Slipway: a fleet on one machine (dev), the
// agent's init for process steps, and the client that submits runs and
// controls them. What stands above both coordinator and agent stands here.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/slipway-ci/slipway/agent/stepinit"
	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/spec"
	"github.com/slipway-ci/slipway/shared/wire"
)

// Exit codes, documented in docs/cli.md and stable.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitCanceled    = 3
	exitTimedOut    = 4
	exitNotFound    = 5
	exitAuth        = 6
	exitLint        = 7
	exitUnavailable = 8
	exitInfra       = 9
	exitInterrupted = 130
)

func main() {
	stepinit.MaybeMain() // the agent starts this binary again as the parent of a process step
	os.Exit(run(os.Args[1:]))
}

// run is main without the exit, for the script tests.
func run(args []string) int {
	ctx, stop := onSignals()
	defer stop()
	cli := newCLI(os.Stdin, os.Stdout, os.Stderr)
	cmd := cli.command()
	cmd.SetArgs(args)
	return cli.exitCode(ctx, cmd.ExecuteContext(ctx))
}

// codeError ends the program with a code of its own; a nil err prints nothing.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *codeError) Unwrap() error { return e.err }

// usagef is an error in the words of the command line itself.
func usagef(format string, args ...any) error {
	return &codeError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// exitCode prints err for a person and returns the code it stands for.
func (c *cli) exitCode(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var problems spec.Problems
	if errors.As(err, &problems) {
		fmt.Fprintln(c.err, problems.Error())
		return exitLint
	}
	var ce *codeError
	if errors.As(err, &ce) {
		if ce.err != nil {
			c.complain(ce.err)
		}
		return ce.code
	}
	if errors.Is(err, context.DeadlineExceeded) {
		c.complain(fmt.Errorf("gave up after %s (--timeout): %w", c.timeout, err))
		return exitTimedOut
	}
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	if faults := wire.Problems(err); len(faults) > 0 {
		c.complainAbout(err, faults)
		return exitLint
	}
	c.complain(err)
	return kindCode(err)
}

func (c *cli) complain(err error) {
	fmt.Fprintln(c.err, c.style(c.err).red("error:"), err)
}

// complainAbout prints the faults of a workflow file that the server found.
func (c *cli) complainAbout(err error, faults []*pb.Problem) {
	headline, _, _ := strings.Cut(err.Error(), "\n") // the faults follow, in more detail
	c.complain(errors.New(headline))
	for _, p := range faults {
		fmt.Fprintf(c.err, "\n%s:%d:%d: %s: %s\n", p.GetFile(), p.GetLine(), p.GetColumn(), p.GetSeverity(), p.GetMessage())
		if p.GetExcerpt() != "" {
			fmt.Fprintln(c.err, p.GetExcerpt())
		}
		if p.GetHint() != "" {
			fmt.Fprintln(c.err, "  "+p.GetHint())
		}
	}
}

// kindCode maps what kind of failure it was to the exit code.
func kindCode(err error) int {
	var known *ci.Error
	if !errors.As(err, &known) {
		return exitUsage // flags, files and arguments: the caller can mend it
	}
	switch known.Kind {
	case ci.NotFound:
		return exitNotFound
	case ci.Unauthenticated, ci.Forbidden:
		return exitAuth
	case ci.Unavailable, ci.Exhausted:
		return exitUnavailable
	case ci.Internal:
		return exitInfra
	case ci.Canceled:
		return exitInterrupted
	case ci.Invalid, ci.Conflict, ci.Unsupported:
		return exitUsage
	}
	return exitInfra
}
