package sshd

import (
	"context"
	"log/slog"
	"math"

	"buildenv/sshd/session"
)

// levels are what LogLevel lets through (sshd_config(5)), INFO if it is not set.
var levels = map[string]slog.Level{
	"QUIET": math.MaxInt, "FATAL": slog.LevelError + 4, "ERROR": slog.LevelError, "INFO": slog.LevelInfo,
	"VERBOSE": session.LevelVerbose, "DEBUG1": slog.LevelDebug, "DEBUG2": slog.LevelDebug, "DEBUG3": slog.LevelDebug,
}

// logLevel is a slog.Handler that obeys LogLevel. What that lets through is
// asked for, so it is told as information even if the program's own log leaves
// debugging out.
type logLevel struct {
	slog.Handler
	least slog.Level
}

func (h logLevel) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.least && h.Handler.Enabled(ctx, max(l, slog.LevelInfo))
}

func (h logLevel) Handle(ctx context.Context, r slog.Record) error {
	r.Level = max(r.Level, slog.LevelInfo)
	return h.Handler.Handle(ctx, r)
}

func (h logLevel) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logLevel{h.Handler.WithAttrs(attrs), h.least}
}

func (h logLevel) WithGroup(name string) slog.Handler {
	return logLevel{h.Handler.WithGroup(name), h.least}
}
