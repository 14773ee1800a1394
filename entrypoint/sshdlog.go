package entrypoint

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"log/syslog"
	"strings"
	"sync"
)

// sshdLogs is where the lines of the SSH server by itself go: to stderr as long
// as the one who started it reads that, then to the system's log, or to the file
// that -E names. It is a slog.Handler whose destination changes.
type sshdLogs struct {
	mu     sync.Mutex // protects the following
	target slog.Handler
	stderr bool // what is logged now is seen there
	system *systemLog
}

func newSSHDLogs(stderr io.Writer) *sshdLogs {
	return &sshdLogs{target: messageLog{stderr}, stderr: true}
}

func (l *sshdLogs) logger() *slog.Logger { return slog.New(l) }

// toFile is -E: from then on nothing goes anywhere else.
func (l *sshdLogs) toFile(f io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target, l.stderr = messageLog{f}, false
}

// serving is -e, or the system's log. stderr stands in for that where there is none.
func (l *sshdLogs) serving(facility string, toStderr bool, stderr io.Writer, format string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = messageLog{stderr}
	if format == "json" {
		l.target = slog.NewJSONHandler(stderr, nil)
	}
	if !toStderr {
		l.system = &systemLog{instead: l.target, facility: facilities[facility]}
		l.target = l.system
		l.stderr = !hasSystemLog()
	}
}

// facility follows SyslogFacility.
func (l *sshdLogs) facility(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.system != nil {
		l.system.change(facilities[name])
	}
}

func (l *sshdLogs) onStderr() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stderr
}

func (l *sshdLogs) current() slog.Handler {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.target
}

func (l *sshdLogs) Enabled(ctx context.Context, level slog.Level) bool {
	return l.current().Enabled(ctx, level)
}
func (l *sshdLogs) Handle(ctx context.Context, r slog.Record) error {
	return l.current().Handle(ctx, r)
}
func (l *sshdLogs) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *sshdLogs) WithGroup(string) slog.Handler      { return l }

// Write takes lines of the audit.
func (l *sshdLogs) Write(line []byte) (int, error) {
	l.logger().Info(strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

// facilities are those of SyslogFacility (sshd_config(5)).
var facilities = map[string]syslog.Priority{
	"DAEMON": syslog.LOG_DAEMON, "USER": syslog.LOG_USER, "AUTH": syslog.LOG_AUTH, "AUTHPRIV": syslog.LOG_AUTHPRIV,
	"LOCAL0": syslog.LOG_LOCAL0, "LOCAL1": syslog.LOG_LOCAL1, "LOCAL2": syslog.LOG_LOCAL2, "LOCAL3": syslog.LOG_LOCAL3,
	"LOCAL4": syslog.LOG_LOCAL4, "LOCAL5": syslog.LOG_LOCAL5, "LOCAL6": syslog.LOG_LOCAL6, "LOCAL7": syslog.LOG_LOCAL7,
}

// systemLog is a slog.Handler that writes to syslog(3)'s socket, in the name of
// sshd, which log watchers look for. A line that finds no socket goes elsewhere;
// the next one looks again.
type systemLog struct {
	instead slog.Handler
	address string // of the socket, "" for the system's

	mu       sync.Mutex // protects the following
	facility syslog.Priority
	writer   *syslog.Writer // nil for none yet
}

func (s *systemLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (s *systemLog) WithAttrs([]slog.Attr) slog.Handler           { return s }
func (s *systemLog) WithGroup(string) slog.Handler                { return s }

func (s *systemLog) Handle(ctx context.Context, r slog.Record) error {
	if s.write(r) == nil {
		return nil
	}
	return s.instead.Handle(ctx, r)
}

func (s *systemLog) write(r slog.Record) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writer == nil {
		if s.writer, err = s.dial(); err != nil {
			return err
		}
	}
	for _, line := range messageLines(r) {
		err = errors.Join(err, s.priority(r.Level)(line))
	}
	return err
}

func (s *systemLog) priority(l slog.Level) func(line string) error {
	switch {
	case l > slog.LevelError:
		return s.writer.Crit
	case l == slog.LevelError:
		return s.writer.Err
	case l >= slog.LevelWarn:
		return s.writer.Warning
	}
	return s.writer.Info
}

func (s *systemLog) dial() (*syslog.Writer, error) {
	if s.address == "" {
		return syslog.New(s.facility, "sshd")
	}
	return syslog.Dial("unixgram", s.address, s.facility, "sshd")
}

// hasSystemLog tells whether there is one now.
func hasSystemLog() bool {
	w, err := (&systemLog{facility: syslog.LOG_AUTH}).dial()
	if err == nil {
		w.Close()
	}
	return err == nil
}

// change begins with another facility.
func (s *systemLog) change(facility syslog.Priority) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.facility == facility {
		return
	}
	s.facility = facility
	if s.writer != nil {
		s.writer.Close()
		s.writer = nil
	}
}
