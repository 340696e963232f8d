package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
)

func (c *cli) stepCommand() *cobra.Command {
	return noun("step", "Show, retry, skip, cancel and explain one step",
		c.stepShow(), c.stepRetry(), c.stepSkip(), c.stepCancel(), c.stepWhy())
}

// stepVerb makes a verb that takes RUN/STEP.
func (c *cli) stepVerb(use, short string, act func(cmd *cobra.Command, cl *client, ref stepRef) error) *cobra.Command {
	return &cobra.Command{
		Use:   use + " RUN/STEP",
		Short: short,
		Args:  exactly(1, "a step as RUN/STEP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := parseStepRef(args[0])
			if err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			return act(cmd, cl, ref)
		},
	}
}

func (c *cli) stepShow() *cobra.Command {
	return c.stepVerb("show", "Show a step with all its attempts", func(cmd *cobra.Command, cl *client, ref stepRef) error {
		run, _, err := cl.getRun(cmd.Context(), ref.run)
		if err != nil {
			return err
		}
		step, err := findStep(run, ref.step)
		if err != nil {
			return err
		}
		return c.print(step, run.GetId()+"/"+step.GetId(), func() error { return c.showStep(run, step) })
	})
}

func (c *cli) showStep(run *pb.Run, s *pb.Step) error {
	st, now := c.style(c.out), time.Now()
	fmt.Fprintf(c.out, "step      %s\nstate     %s%s\n", st.bold(run.GetId()+"/"+s.GetId()), st.state(s.GetState()), because(s.GetReason(), s.GetMessage()))
	if w := s.GetWaitReason(); w != nil {
		fmt.Fprintf(c.out, "waits     %s (%s)\n", w.GetMessage(), w.GetCode())
	}
	if len(s.GetNeeds()) > 0 {
		fmt.Fprintf(c.out, "needs     %s\n", strings.Join(s.GetNeeds(), ", "))
	}
	if s.GetSkippedBy() != "" {
		fmt.Fprintf(c.out, "skipped   by %s\n", s.GetSkippedBy())
	}
	for _, k := range slices.Sorted(maps.Keys(s.GetOutputs())) {
		fmt.Fprintf(c.out, "output    %s=%s\n", k, s.GetOutputs()[k])
	}
	if len(s.GetAttempts()) == 0 {
		return nil
	}
	fmt.Fprintln(c.out)
	var rows [][]string
	for _, a := range s.GetAttempts() {
		exit := "-"
		if a.ExitCode != nil {
			exit = fmt.Sprint(a.GetExitCode())
		}
		rows = append(rows, []string{
			fmt.Sprintf("#%d", a.GetNumber()), st.state(a.GetState()), exit, orElse(a.GetAgent(), "-"),
			span(a.GetStartedAt(), a.GetFinishedAt(), now), orElse(a.GetLogPath(), "-"),
			why(a.GetReason(), a.GetMessage()),
		})
	}
	return writeTable(c.out, []string{"ATTEMPT", "STATE", "EXIT", "AGENT", "TOOK", "LOG_PATH", "WHY"}, rows)
}

func (c *cli) stepRetry() *cobra.Command {
	var flags retryFlags
	cmd := &cobra.Command{
		Use:   "retry RUN/STEP",
		Short: "Run one step again, and what did not run because of it, with other parameters if wished",
		Args:  exactly(1, "a step as RUN/STEP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := parseStepRef(args[0])
			if err != nil {
				return err
			}
			return c.retry(cmd.Context(), &pb.RetryRunRequest{Run: ref.run, Steps: []string{ref.step}}, flags)
		},
	}
	flags.add(cmd)
	return cmd
}

func (c *cli) stepSkip() *cobra.Command {
	var why string
	cmd := c.stepVerb("skip", "Let a waiting or failed step stand as passed", func(cmd *cobra.Command, cl *client, ref stepRef) error {
		res, err := cl.runs.SkipStep(cmd.Context(), &pb.SkipStepRequest{Run: ref.run, Step: ref.step, Reason: why})
		if err != nil {
			return err
		}
		return c.said(res.GetRun(), "step %s of run %s is skipped", ref.step, res.GetRun().GetId())
	})
	cmd.PreRunE = func(_ *cobra.Command, args []string) error {
		if why == "" {
			return usagef("cannot skip %s without a reason: give one with -m", args[0])
		}
		return nil
	}
	cmd.Flags().StringVarP(&why, "message", "m", "", "why, for the record (needed)")
	return cmd
}

func (c *cli) stepCancel() *cobra.Command {
	var why string
	cmd := c.stepVerb("cancel", "Cancel one step; the run goes on as if it had failed", func(cmd *cobra.Command, cl *client, ref stepRef) error {
		res, err := cl.runs.CancelStep(cmd.Context(), &pb.CancelStepRequest{Run: ref.run, Step: ref.step, Reason: why})
		if err != nil {
			return err
		}
		return c.said(res.GetRun(), "step %s of run %s is being canceled", ref.step, res.GetRun().GetId())
	})
	cmd.Flags().StringVarP(&why, "message", "m", "", "why, for the record")
	return cmd
}

func (c *cli) stepWhy() *cobra.Command {
	return c.stepVerb("why", "Say why a step waits, or how it ended", func(cmd *cobra.Command, cl *client, ref stepRef) error {
		res, err := cl.runs.ExplainStep(cmd.Context(), &pb.ExplainStepRequest{Run: ref.run, Step: ref.step})
		if err != nil {
			return err
		}
		return c.print(res, ref.String(), func() error {
			for _, line := range res.GetExplanation() {
				fmt.Fprintln(c.out, line)
			}
			return nil
		})
	})
}
