package entrypoint

import (
	"context"
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
)

// newLogger writes to w as LOG_FORMAT and LOG_LEVEL say. Values that are not
// among the known ones count as the defaults, so that the complaint about them
// can be logged.
func newLogger(w io.Writer, cfg Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: level(cfg.LogLevel)}
	var handler slog.Handler = slog.NewTextHandler(w, options)
	if cfg.LogFormat == "json" {
		handler = slog.NewJSONHandler(w, options)
	}
	log := slog.New(handler)
	if cfg.JobID != "" {
		log = log.With("job", cfg.JobID)
	}
	return log
}

// level translates the image service's names of levels, which are Python's.
func level(name string) slog.Level {
	switch strings.ToUpper(name) {
	case "DEBUG":
		return slog.LevelDebug
	case "WARNING":
		return slog.LevelWarn
	case "ERROR":
		return slog.LevelError
	case "CRITICAL":
		return slog.LevelError + 4
	default:
		return slog.LevelInfo
	}
}

// messageLog is a slog.Handler that writes a line for each message, without time
// and level: the form of the log file that sshd's option -E names.
type messageLog struct{ w io.Writer }

func (messageLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (m messageLog) WithAttrs([]slog.Attr) slog.Handler         { return m }
func (m messageLog) WithGroup(string) slog.Handler              { return m }

func (m messageLog) Handle(_ context.Context, r slog.Record) error {
	_, err := io.WriteString(m.w, strings.Join(messageLines(r), "\n")+"\n")
	return err
}

// maxValue bounds a value in a line, in bytes; its length may be a client's choice.
const maxValue = 16 << 10

// visible escapes what would reach the terminal of who reads the file, but for the
// line breaks between errors and the blanks of a stack.
func visible(text string) string {
	if len(text) > maxValue {
		text = strings.ToValidUTF8(text[:maxValue], "") + "…"
	}
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || r == '\t' || strconv.IsGraphic(r) {
			b.WriteRune(r)
		} else {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// scanned are the messages that programs look for by their ends, fail2ban for one.
var scanned = regexp.MustCompile(`( port \d+| \[preauth\])$`)

// messageLines are a record's message, what it is about, and its reason: on one
// line, unless the message has to stay as sshd has it.
func messageLines(r slog.Record) []string {
	var about []string
	reason := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "reason" || a.Key == "error" {
			reason += ": " + visible(a.Value.String())
		} else {
			about = append(about, a.Key+"="+visible(a.Value.String()))
		}
		return true
	})
	if len(about) > 0 {
		reason = " (" + strings.Join(about, ", ") + ")" + reason
	}
	if reason != "" && scanned.MatchString(r.Message) {
		return []string{inLine(r.Message), inLine("reason" + reason)}
	}
	return []string{inLine(r.Message + reason)}
}

func inLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }
