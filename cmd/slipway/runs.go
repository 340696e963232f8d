package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
	"github.com/slipway-ci/slipway/shared/ci"
	"github.com/slipway-ci/slipway/shared/id"
)

func asCode(err error, target **codeError) bool { return errors.As(err, target) }

func (c *cli) runsCommand() *cobra.Command {
	return noun("runs", "List, show, watch, cancel and retry runs",
		c.runsList(), c.runsShow(), c.runsWatch(), c.runsCancel(), c.runsRetry())
}

func (c *cli) runsList() *cobra.Command {
	var req pb.ListRunsRequest
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List runs, newest first",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			req.Tenant = c.tenant
			res, err := cl.runs.ListRuns(cmd.Context(), &req)
			if err != nil {
				return err
			}
			return printList(c, res, res.GetRuns(), (*pb.Run).GetId, func() error { return c.runTable(res) })
		},
	}
	f := cmd.Flags()
	f.Int32Var(&req.Limit, "limit", 20, "how many, at most 500")
	f.StringVar(&req.Before, "before", "", "only runs older than this one")
	f.StringVar(&req.State, "state", "", "only runs in this state")
	f.StringVar(&req.Workflow, "workflow", "", "only runs of this workflow")
	f.StringVar(&req.Branch, "branch", "", "only runs of this branch")
	f.StringVar(&req.Sha, "sha", "", "only runs of commits that begin so")
	return cmd
}

func (c *cli) runTable(res *pb.ListRunsResponse) error {
	if len(res.GetRuns()) == 0 {
		_, err := fmt.Fprintln(c.out, "no runs")
		return err
	}
	st, now := c.style(c.out), time.Now()
	var rows [][]string
	for _, r := range res.GetRuns() {
		rows = append(rows, []string{
			r.GetId(), r.GetWorkflow(), st.state(r.GetState()), commitOf(r), ago(r.GetCreatedAt(), now),
			span(r.GetStartedAt(), r.GetFinishedAt(), now),
		})
	}
	if err := writeTable(c.out, []string{"RUN", "WORKFLOW", "STATE", "COMMIT", "CREATED", "TOOK"}, rows); err != nil {
		return err
	}
	if res.GetNext() != "" && !c.quiet {
		fmt.Fprintf(c.err, "older ones: slipway runs ls --before %s\n", res.GetNext())
	}
	return nil
}

func commitOf(r *pb.Run) string {
	text := r.GetSha()
	if len(text) > 8 {
		text = text[:8]
	}
	if r.GetDirty() {
		text += "+"
	}
	if r.GetBranch() != "" {
		text += " " + r.GetBranch()
	}
	if text == "" {
		return "-"
	}
	return text
}

func (c *cli) runsShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show RUN",
		Short: "Show a run with its steps (a unique part of its id is enough)",
		Args:  exactly(1, "a run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if run, step, ok := strings.Cut(args[0], "/"); ok {
				return usagef("%q is a step: slipway step show %s/%s", args[0], run, step)
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			run, _, err := cl.getRun(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.print(run, run.GetId(), func() error { return c.showRun(run) })
		},
	}
}

func (c *cli) showRun(r *pb.Run) error {
	st, now := c.style(c.out), time.Now()
	fmt.Fprintf(c.out, "run       %s\nworkflow  %s\nstate     %s%s\n", st.bold(r.GetId()), r.GetWorkflow(), st.state(r.GetState()), because(r.GetReason(), r.GetMessage()))
	fmt.Fprintf(c.out, "commit    %s\ncreated   %s by %s\ntook      %s\n", commitOf(r), ago(r.GetCreatedAt(), now), r.GetCreatedBy(), span(r.GetStartedAt(), r.GetFinishedAt(), now))
	for _, k := range slices.Sorted(maps.Keys(r.GetParams())) {
		fmt.Fprintf(c.out, "param     %s=%s\n", k, oneLine(r.GetParams()[k]))
	}
	fmt.Fprintln(c.out)
	return c.stepTable(r)
}

func because(reason, message string) string {
	if text := why(reason, message); text != "" {
		return " (" + text + ")"
	}
	return ""
}

func why(reason, message string) string {
	if reason != "" && message != "" {
		reason += ": "
	}
	return reason + oneLine(message)
}

func (c *cli) stepTable(r *pb.Run) error {
	st, now := c.style(c.out), time.Now()
	var rows [][]string
	for _, s := range r.GetSteps() {
		note := why(s.GetReason(), s.GetMessage())
		if w := s.GetWaitReason(); w != nil {
			note = w.GetMessage()
		}
		agent, exit := "-", "-"
		if n := len(s.GetAttempts()); n > 0 {
			a := s.GetAttempts()[n-1]
			agent = orElse(a.GetAgent(), "-")
			if a.ExitCode != nil {
				exit = fmt.Sprint(a.GetExitCode())
			}
		}
		rows = append(rows, []string{
			s.GetId(), st.state(s.GetState()), fmt.Sprint(len(s.GetAttempts())), exit, agent,
			span(s.GetStartedAt(), s.GetFinishedAt(), now), note,
		})
	}
	return writeTable(c.out, []string{"STEP", "STATE", "TRIES", "EXIT", "AGENT", "TOOK", "WHY"}, rows)
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func (c *cli) runsWatch() *cobra.Command {
	var logs bool
	cmd := &cobra.Command{
		Use:   "watch RUN",
		Short: "Follow a run's steps until it is over; exits with the run's code",
		Args:  exactly(1, "a run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			run, _, err := cl.getRun(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !logs {
				return c.follow(cmd.Context(), cl, run, followStates)
			}
			return c.followFrom(cmd.Context(), cl, run, followLogs, attemptsOver(run))
		},
	}
	cmd.Flags().BoolVar(&logs, "logs", false, "print the logs too, of attempts that are not over yet")
	return cmd
}

// attemptsOver are the attempts whose logs `slipway logs` shows: a watcher looks
// at what happens from now on.
func attemptsOver(run *pb.Run) map[string]bool {
	over := map[string]bool{}
	for _, s := range run.GetSteps() {
		for _, a := range s.GetAttempts() {
			if ci.StepState(s.GetState()).Terminal() || a.GetGeneration() < s.GetGeneration() {
				over[a.GetId()] = true
			}
		}
	}
	return over
}

func (c *cli) runsCancel() *cobra.Command {
	var req pb.CancelRunRequest
	cmd := &cobra.Command{
		Use:   "cancel RUN",
		Short: "Cancel a run; its finally steps still run unless --hard",
		Args:  exactly(1, "a run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl, err := c.client()
			if err != nil {
				return err
			}
			req.Run = args[0]
			res, err := cl.runs.CancelRun(cmd.Context(), &req)
			if err != nil {
				return err
			}
			return c.said(res.GetRun(), "run %s is %s", res.GetRun().GetId(), res.GetRun().GetState())
		},
	}
	cmd.Flags().StringVarP(&req.Reason, "message", "m", "", "why, for the record")
	cmd.Flags().BoolVar(&req.Hard, "hard", false, "leave the finally steps out too")
	return cmd
}

// said prints an object, or one sentence about it.
func (c *cli) said(run *pb.Run, format string, args ...any) error {
	return c.print(run, run.GetId(), func() error {
		if c.quiet {
			return nil
		}
		_, err := fmt.Fprintf(c.out, format+"\n", args...)
		return err
	})
}

// retryFlags are the flags that both retries share.
type retryFlags struct {
	params []string
	env    []string
	follow bool
}

func (r *retryFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&r.params, "param", nil, "other parameter for the retried steps, as NAME=VALUE")
	cmd.Flags().StringArrayVar(&r.env, "env", nil, "other variable for the retried steps, as NAME=VALUE")
	cmd.Flags().BoolVar(&r.follow, "follow", false, "print the logs live and exit with the run's code")
}

func (c *cli) runsRetry() *cobra.Command {
	var req pb.RetryRunRequest
	var flags retryFlags
	cmd := &cobra.Command{
		Use:   "retry RUN",
		Short: "Open steps of a run again: what failed, one step, or a step and all after it",
		Args:  exactly(1, "a run"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Run = args[0]
			return c.retry(cmd.Context(), &req, flags)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&req.Failed, "failed", false, "what did not pass, and what did not run because of it (the default)")
	f.StringVar(&req.From, "from", "", "this step and all that follows it")
	f.StringSliceVar(&req.Steps, "step", nil, "just these steps (repeatable)")
	flags.add(cmd)
	return cmd
}

func (c *cli) retry(ctx context.Context, req *pb.RetryRunRequest, flags retryFlags) error {
	var err error
	if req.Params, err = pairs("--param", flags.params); err != nil {
		return err
	}
	if req.Env, err = pairs("--env", flags.env); err != nil {
		return err
	}
	chosen := 0
	for _, set := range []bool{req.Failed, req.From != "", len(req.Steps) > 0} {
		if set {
			chosen++
		}
	}
	if chosen > 1 {
		return usagef("choose one of --failed, --from and --step")
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	req.IdempotencyKey = id.New()
	res, err := cl.runs.RetryRun(ctx, req)
	if err != nil {
		return err
	}
	if flags.follow { // what ran before has been read before
		return c.followFrom(ctx, cl, res.GetRun(), followLogs, attemptsOver(res.GetRun()))
	}
	return c.said(res.GetRun(), "run %s is %s again: %s", res.GetRun().GetId(), res.GetRun().GetState(), strings.Join(res.GetSteps(), ", "))
}
