package sshd

import (
	"io"
	"log/slog"
)

// NewAudit writes one JSON object per line to w for each event: who connected,
// who was let in, what ran, which files and addresses were touched. Every object
// has a "time" and an "event"; those of one connection share its number.
// docs/security.md lists the events. w gets one write for each line.
func NewAudit(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: auditKeys}))
}

func auditKeys(groups []string, a slog.Attr) slog.Attr {
	switch {
	case len(groups) > 0:
	case a.Key == slog.LevelKey:
		return slog.Attr{} // events have none
	case a.Key == slog.MessageKey:
		a.Key = "event"
	}
	return a
}
