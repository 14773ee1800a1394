package session

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

// maxAuditText bounds a text of the client's in the audit log, in bytes.
const maxAuditText = 4096

// metered is a channel that counts what passes, for the audit log.
type metered struct {
	ssh.Channel
	in, out, err atomic.Int64
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Channel.Read(p)
	m.in.Add(int64(n))
	return n, err
}

func (m *metered) Write(p []byte) (int, error) {
	n, err := m.Channel.Write(p)
	m.out.Add(int64(n))
	return n, err
}

func (m *metered) Stderr() io.ReadWriter { return meteredErrors{m.Channel.Stderr(), &m.err} }

type meteredErrors struct {
	io.ReadWriter
	written *atomic.Int64
}

func (e meteredErrors) Write(p []byte) (int, error) {
	n, err := e.ReadWriter.Write(p)
	e.written.Add(int64(n))
	return n, err
}

// outcome is how a job ended. The zero outcome is one that nobody was told of,
// because the channel ended before.
type outcome struct {
	known  bool
	status int
	signal string // its name on the wire, "" for none
	core   bool
}

func outcomeOf(status syscall.WaitStatus) outcome {
	if !status.Signaled() {
		return outcome{known: true, status: status.ExitStatus()}
	}
	return outcome{known: true, signal: signalName(status.Signal()), core: status.CoreDump()}
}

// auditStart records what starts.
func (s *session) auditStart(actual, wanted request) {
	fields := []any{"session", s.number, "user", s.Account.Name, "kind", wanted.kind, "command", auditText(actual.command)}
	if s.Policy.ForceCommand != "" {
		fields[5] = "forced"
		fields = append(fields, "asked", wanted.kind, "original", auditText(wanted.command))
	}
	if wanted.subsystem != "" {
		fields = append(fields, "subsystem", auditText(wanted.subsystem))
	}
	if s.tty != nil {
		fields = append(fields, "tty", s.tty.name, "term", auditText(s.term))
	}
	s.Audit.Info("session.started", fields...)
}

// auditEnd records how it ended and how much passed.
func (s *session) auditEnd(start time.Time) {
	fields := []any{"session", s.number}
	switch o := s.outcome; {
	case o.signal != "":
		fields = append(fields, "signal", o.signal, "core", o.core)
	case o.known:
		fields = append(fields, "exit", o.status)
	}
	c := s.channel
	fields = append(fields, "in", c.in.Load(), "out", c.out.Load(), "err", c.err.Load(), "seconds", time.Since(start).Seconds())
	s.Audit.Info("session.ended", fields...)
}

// auditText makes a text of the client's fit for a line that people read, too:
// bounded, and without what a terminal would obey. Below a space JSON escapes by
// itself.
func auditText(text string) string {
	whole := text
	if len(text) > maxAuditText {
		end := maxAuditText
		for end > maxAuditText-utf8.UTFMax && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	var b strings.Builder
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r < ' ' || strconv.IsGraphic(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	if len(text) < len(whole) {
		fmt.Fprintf(&b, "… (%d bytes)", len(whole))
	}
	return b.String()
}
