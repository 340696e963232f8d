package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
	"github.com/slipway-ci/slipway/shared/ci"
)

// followMode says what a follower prints.
type followMode int

const (
	followStates followMode = iota // changes of steps only
	followLogs                     // and every line of their logs
)

// pollSeconds is how long the server may hold a call while nothing happens.
const pollSeconds = 20

// follower prints a run's life and ends with its exit code.
type follower struct {
	cl     *client
	screen *screen
	mode   followMode
	seen   map[string]string // step to the last state told
	logs   map[string]bool   // attempts whose log is being followed
	width  int
	style  style
	quiet  bool
	group  *errgroup.Group
}

// follow prints the run until it is over. Its error carries the run's exit
// code. Ctrl-C detaches and says how to cancel. Standard output belongs to the
// run's document where one was asked for; its life goes to standard error then.
func (c *cli) follow(ctx context.Context, cl *client, run *pb.Run, mode followMode) error {
	return c.followFrom(ctx, cl, run, mode, nil)
}

// followFrom is follow that says nothing of the attempts told before.
func (c *cli) followFrom(ctx context.Context, cl *client, run *pb.Run, mode followMode, told map[string]bool) error {
	out := c.out
	if c.output != "table" {
		out = c.err
	}
	f := &follower{
		cl: cl, screen: newScreen(out, c.style(out)), mode: mode, quiet: c.quiet, style: c.style(out),
		seen: map[string]string{}, logs: map[string]bool{},
	}
	maps.Copy(f.logs, told)
	for _, s := range run.GetSteps() {
		f.width = max(f.width, len(s.GetId()))
		if told != nil && ci.StepState(s.GetState()).Terminal() {
			f.seen[s.GetId()] = s.GetState()
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	f.group = group
	last := run
	group.Go(func() error {
		var err error
		last, err = f.watch(gctx, run)
		return err
	})
	err := group.Wait()
	f.screen.close()
	if ctx.Err() != nil {
		fmt.Fprintf(c.err, "detached; the run goes on. Cancel it with: slipway runs cancel %s\n", run.GetId())
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return ctx.Err() // --timeout
		}
		return &codeError{code: exitInterrupted}
	}
	if err != nil {
		return err
	}
	return c.finish(last)
}

// finish prints the last word and turns the run's exit code into an error.
func (c *cli) finish(run *pb.Run) error {
	switch {
	case c.output != "table":
		if err := c.print(run, run.GetId(), nil); err != nil {
			return err
		}
	case !c.quiet:
		text := fmt.Sprintf("run %s %s", run.GetId(), c.style(c.out).state(run.GetState()))
		if run.GetReason() != "" {
			text += " (" + run.GetReason() + ")"
		}
		if run.GetStartedAt() != nil { // else nothing ran
			text += " in " + span(run.GetStartedAt(), run.GetFinishedAt(), time.Now())
		}
		fmt.Fprintln(c.out, text)
	}
	if code := int(run.GetExitCode()); code != exitOK {
		return &codeError{code: code}
	}
	return nil
}

// watch follows the run's state until it is final.
func (f *follower) watch(ctx context.Context, run *pb.Run) (*pb.Run, error) {
	index := ""
	for {
		f.show(ctx, run)
		if run.GetFinal() {
			return run, nil
		}
		res, err := patient(ctx, f.away, func() (*pb.WatchRunResponse, error) {
			return f.cl.runs.WatchRun(ctx, &pb.WatchRunRequest{Run: run.GetId(), Index: index, WaitSeconds: pollSeconds})
		})
		if err != nil {
			return run, err
		}
		index = res.GetIndex()
		if res.GetRun() != nil {
			run = res.GetRun()
		}
	}
}

func (f *follower) away(err error) {
	f.screen.line(f.style.dim(fmt.Sprintf("the server is away (%v); waiting for it", err)))
}

// show tells what changed and starts followers of new logs.
func (f *follower) show(ctx context.Context, run *pb.Run) {
	var live []string
	for _, s := range run.GetSteps() {
		state := s.GetState()
		if !quietState(state) && f.seen[s.GetId()] != state {
			f.seen[s.GetId()] = state
			if !f.quiet {
				f.screen.line(f.prefix(s.GetId()) + f.style.state(state) + f.style.dim(stepNote(s)))
			}
		}
		if state == "running" || state == "preparing" || state == "queued" || state == "assigned" {
			live = append(live, s.GetId()+" "+state)
		}
		f.stuck(s)
		for _, a := range s.GetAttempts() {
			f.followLog(ctx, run, s, a)
		}
	}
	f.screen.sticky(fmt.Sprintf("%s  %d/%d done  %s", run.GetState(), doneSteps(run), len(run.GetSteps()), strings.Join(live, ", ")))
}

// stuck says once that a step waits for an agent that the fleet does not have:
// who follows would wait in silence until a timeout.
func (f *follower) stuck(s *pb.Step) {
	w, key := s.GetWaitReason(), "waits/"+s.GetId() // no id holds a slash
	if w.GetCode() != string(ci.WaitNoAgent) || f.seen[key] == w.GetMessage() || f.quiet {
		return
	}
	f.seen[key] = w.GetMessage()
	f.screen.line(f.prefix(s.GetId()) + f.style.dim("waits: "+oneLine(w.GetMessage())))
}

// quietState leaves out the states that last a moment.
func quietState(state string) bool {
	switch state {
	case "pending", "queued", "assigned", "preparing", "reporting":
		return true
	}
	return false
}

func doneSteps(run *pb.Run) int {
	n := 0
	for _, s := range run.GetSteps() {
		if ci.StepState(s.GetState()).Terminal() {
			n++
		}
	}
	return n
}

func stepNote(s *pb.Step) string {
	var notes []string
	if s.GetReason() != "" {
		notes = append(notes, s.GetReason())
	}
	if s.GetMessage() != "" {
		notes = append(notes, oneLine(s.GetMessage()))
	}
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.Join(notes, ": ") + ")"
}

func (f *follower) prefix(step string) string {
	colour := stepColours[int(hash(step))%len(stepColours)]
	return f.style.paint(colour, fmt.Sprintf("%-*s", f.width, step)) + f.style.dim(" | ")
}

// hash is FNV-1a, so that a step keeps its colour.
func hash(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

func (f *follower) followLog(ctx context.Context, run *pb.Run, s *pb.Step, a *pb.Attempt) {
	if f.mode != followLogs || f.logs[a.GetId()] || a.GetLogPath() == "" || a.GetState() == "assigned" {
		return
	}
	f.logs[a.GetId()] = true
	prefix := f.prefix(s.GetId())
	ref := stepRef{run: run.GetId(), step: s.GetId(), attempt: a.GetNumber()}
	f.group.Go(func() error {
		lines := lineWriter{emit: func(text string) { f.screen.line(prefix + text) }}
		err := readLog(ctx, f.cl, ref, logOptions{follow: true, away: f.away}, lines.record)
		lines.flush()
		if ci.KindOf(err) == ci.NotFound {
			return nil // an attempt that ended before it had a log
		}
		return err
	})
}
