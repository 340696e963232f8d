package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	pb "github.com/slipway-ci/slipway/proto/slipway/v1"
	"github.com/slipway-ci/slipway/shared/ci"
)

// logOptions say how a log is read.
type logOptions struct {
	follow bool
	tail   int32
	away   func(error)
}

// readLog hands every record of an attempt's log to emit, once and in order.
func readLog(ctx context.Context, cl *client, ref stepRef, opt logOptions, emit func(*pb.LogRecord) error) error {
	req := &pb.ReadLogRequest{Run: ref.run, Step: ref.step, Attempt: ref.attempt, Limit: 5000, Tail: opt.tail}
	if opt.follow {
		req.WaitSeconds = pollSeconds
	}
	away := opt.away
	if away == nil {
		away = func(error) {}
	}
	for {
		res, err := patient(ctx, away, func() (*pb.ReadLogResponse, error) { return cl.runs.ReadLog(ctx, req) })
		if err != nil {
			return err
		}
		for _, r := range res.GetRecords() {
			if err := emit(r); err != nil {
				return err
			}
		}
		if res.GetEnd() || (!opt.follow && len(res.GetRecords()) == 0) {
			return nil
		}
		req.Cursor, req.Attempt = res.GetCursor(), res.GetAttempt()
	}
}

// lineWriter joins the parts of long lines, each stream by itself.
type lineWriter struct {
	emit  func(text string)
	stamp bool
	held  map[string]*strings.Builder
}

// heldLimit bounds what is kept of a line without an end, in bytes.
const heldLimit = 1 << 20

const stampFormat = "2006-01-02T15:04:05.000000Z "

func (l *lineWriter) record(r *pb.LogRecord) error {
	b := l.held[r.GetStream()]
	if b == nil {
		if l.held == nil {
			l.held = map[string]*strings.Builder{}
		}
		b = &strings.Builder{}
		l.held[r.GetStream()] = b
	}
	if b.Len() == 0 && l.stamp {
		b.WriteString(r.GetAt().AsTime().Format(stampFormat))
	}
	b.Write(r.GetData())
	if r.GetPartial() && b.Len() < heldLimit {
		return nil
	}
	l.line(b.String())
	b.Reset()
	return nil
}

// line prints one, of which the time before it is no part.
func (l *lineWriter) line(text string) {
	stamp := ""
	if l.stamp {
		stamp, text = text[:len(stampFormat)], text[len(stampFormat):]
	}
	l.emit(stamp + logLine(text))
}

// flush prints lines that never ended.
func (l *lineWriter) flush() {
	for _, b := range l.held {
		if b.Len() > 0 {
			l.line(b.String())
			b.Reset()
		}
	}
}

func (c *cli) logsCommand() *cobra.Command {
	var opt logOptions
	var stamps, raw bool
	cmd := &cobra.Command{
		Use:   "logs RUN[/STEP[#NUMBER]]",
		Short: "Print the log of a step, or of every step of a run",
		Args:  exactly(1, "a run or a step"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := parseRef(args[0])
			if err != nil {
				return err
			}
			cl, err := c.client()
			if err != nil {
				return err
			}
			if ref.step == "" {
				return c.runLogs(cmd.Context(), cl, ref, opt, stamps, raw)
			}
			return c.stepLog(cmd.Context(), cl, ref, opt, stamps, raw, "")
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&opt.follow, "follow", "f", false, "go on until the log ends")
	f.Int32Var(&opt.tail, "tail", 0, "begin this many lines before the end")
	f.BoolVar(&stamps, "timestamps", false, "put each line's time before it")
	f.BoolVar(&raw, "raw", false, "the bytes as they are, control characters too: no prefixes, no word of the agent itself")
	return cmd
}

// stepLog prints one attempt's log.
func (c *cli) stepLog(ctx context.Context, cl *client, ref stepRef, opt logOptions, stamps, raw bool, prefix string) error {
	if c.output == "json" || c.output == "jsonl" || c.output == "yaml" {
		return readLog(ctx, cl, ref, opt, func(r *pb.LogRecord) error {
			line, err := toJSON(r)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "%s\n", line)
			return err
		})
	}
	var broken error
	lines := lineWriter{stamp: stamps, emit: func(text string) {
		if _, err := fmt.Fprintln(c.out, prefix+text); err != nil {
			broken = err
		}
	}}
	err := readLog(ctx, cl, ref, opt, func(r *pb.LogRecord) error {
		if !raw {
			if err := lines.record(r); err != nil {
				return err
			}
			return broken
		}
		if r.GetStream() == "system" {
			return nil
		}
		data := r.GetData()
		if !r.GetPartial() {
			data = append(data, '\n')
		}
		_, err := c.out.Write(data)
		return err
	})
	lines.flush()
	return err
}

// runLogs prints the logs of all steps: live and side by side with --follow,
// else one after the other.
func (c *cli) runLogs(ctx context.Context, cl *client, ref stepRef, opt logOptions, stamps, raw bool) error {
	run, _, err := cl.getRun(ctx, ref.run)
	if err != nil {
		return err
	}
	if opt.follow && c.output == "table" && !raw {
		if err := c.follow(ctx, cl, run, followLogs); err != nil {
			var code *codeError // of the run; logs itself has not failed
			if asCode(err, &code) && code.code != exitInterrupted {
				return nil
			}
			return err
		}
		return nil
	}
	st := c.style(c.out)
	for _, s := range run.GetSteps() {
		if len(s.GetAttempts()) == 0 {
			continue
		}
		prefix := st.bold(s.GetId()) + st.dim(" | ")
		err := c.stepLog(ctx, cl, stepRef{run: run.GetId(), step: s.GetId()}, opt, stamps, raw, prefix)
		if err != nil && ci.KindOf(err) != ci.NotFound {
			return err
		}
	}
	return nil
}
