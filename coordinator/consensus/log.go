package consensus

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLog hands the libraries' log lines to slog, one level lower each: raft
// warns at every election and reports an error for every peer that is away,
// which is ordinary life here.
type raftLog struct {
	log  *slog.Logger
	name string
	args []any
}

// noContext is what log lines carry that come out of raft, which knows none.
var noContext = context.Background() //nolint:forbidigo // hclog hands over no context

func newRaftLog(l *slog.Logger, name string) hclog.Logger { return raftLog{log: l, name: name} }

func (l raftLog) Log(level hclog.Level, msg string, args ...any) {
	l.log.Log(noContext, slogLevel(level), l.name+": "+msg, plain(args)...)
}

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Error:
		return slog.LevelWarn
	case hclog.Warn:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

// plain undoes hclog's own formatting wrapper, which slog does not know.
func plain(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			a = f[0]
		}
		out[i] = a
	}
	return out
}

func (l raftLog) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l raftLog) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l raftLog) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l raftLog) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l raftLog) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l raftLog) enabled(level hclog.Level) bool {
	return l.log.Enabled(noContext, slogLevel(level))
}

func (l raftLog) IsTrace() bool { return false }
func (l raftLog) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l raftLog) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l raftLog) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l raftLog) IsError() bool { return l.enabled(hclog.Error) }

func (l raftLog) ImpliedArgs() []any { return l.args }
func (l raftLog) Name() string       { return l.name }

func (l raftLog) With(args ...any) hclog.Logger {
	return raftLog{log: l.log.With(plain(args)...), name: l.name, args: append(l.args[:len(l.args):len(l.args)], args...)}
}

func (l raftLog) Named(name string) hclog.Logger { return l.ResetNamed(l.name + "." + name) }

func (l raftLog) ResetNamed(name string) hclog.Logger {
	l.name = name
	return l
}

func (l raftLog) SetLevel(hclog.Level)  {} // slog's handler decides
func (l raftLog) GetLevel() hclog.Level { return hclog.NoLevel }

func (l raftLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(nil), "", 0)
}

func (l raftLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return lineWriter{l} }

type lineWriter struct{ log raftLog }

func (w lineWriter) Write(line []byte) (int, error) {
	w.log.Debug(string(bytes.TrimSpace(line)))
	return len(line), nil
}
