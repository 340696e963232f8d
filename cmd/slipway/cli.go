package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-ci/slipway/shared/version"
)

// cli holds what every verb shares: the streams and the global flags.
type cli struct {
	in  io.Reader
	out io.Writer
	err io.Writer

	context string
	tenant  string
	url     string
	output  string
	quiet   bool
	noColor bool
	yes     bool
	timeout time.Duration
}

func newCLI(in io.Reader, out, err io.Writer) *cli {
	return &cli{in: in, out: out, err: err}
}

// command builds the tree of verbs.
func (c *cli) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "slipway",
		Short:         "A build fleet of your own: from commit to tested, deployed service",
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.checkOutput(); err != nil {
				return err
			}
			if c.timeout > 0 {
				ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
				cobra.OnFinalize(cancel)
				cmd.SetContext(ctx)
			}
			return nil
		},
	}
	root.SetIn(c.in)
	root.SetOut(c.out)
	root.SetErr(c.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &codeError{code: exitUsage, err: err}
	})
	f := root.PersistentFlags()
	f.StringVarP(&c.context, "context", "c", "", "context of the config file to use")
	f.StringVarP(&c.tenant, "tenant", "t", "", "tenant to act for (default: the token's)")
	f.StringVar(&c.url, "url", "", "server to talk to (default: SLIPWAY_URL, the context, a running dev)")
	f.StringVarP(&c.output, "output", "o", "table", "output: table, json, yaml, jsonl or name")
	f.BoolVar(&c.quiet, "quiet", false, "print only what was asked for")
	f.BoolVar(&c.noColor, "no-color", false, "no colours, also on a terminal (NO_COLOR does the same)")
	f.BoolVar(&c.yes, "yes", false, "answer yes to every question")
	f.DurationVar(&c.timeout, "timeout", 0, "give up after this long (exit code 4)")

	root.AddCommand(
		c.devCommand(), c.demoCommand(),
		c.initCommand(), c.lintCommand(), c.runCommand(), c.runsCommand(), c.stepCommand(),
		c.logsCommand(), c.artifactCommand(), c.agentCommand(), c.auditCommand(),
		c.contextCommand(), c.whoamiCommand(), c.versionCommand(),
	)
	return root
}

// noun makes a command that only groups verbs, and complains about unknown ones.
func noun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q of %q; see %q", args[0], cmd.CommandPath(), cmd.CommandPath()+" --help")
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(verbs...)
	return cmd
}

// exactly refuses another number of arguments as a usage error.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s needs %s; see %q", cmd.CommandPath(), what, cmd.CommandPath()+" --help")
		}
		return nil
	}
}

// atMost refuses more arguments than n as a usage error.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef("%s takes at most %d argument(s); see %q", cmd.CommandPath(), n, cmd.CommandPath()+" --help")
		}
		return nil
	}
}
