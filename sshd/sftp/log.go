package sftp

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"buildenv/internal/wording"
)

// A LogLevel is how much of what a client does goes to Options.Log (option -l
// of sftp-server(8)). The lines have OpenSSH's wording.
type LogLevel int

// Each level says what the one before it says, and more.
const (
	LogErrors  LogLevel = iota // nothing that clients do
	LogInfo                    // what opens, closes or changes a file, and what fails
	LogVerbose                 // what looks at a name
	LogDebug                   // each request, and how it ended
)

// logLevels are the words of option -l. Case does not matter.
var logLevels = map[string]LogLevel{
	"QUIET": LogErrors, "FATAL": LogErrors, "ERROR": LogErrors, "INFO": LogInfo, "VERBOSE": LogVerbose,
	"DEBUG": LogDebug, "DEBUG1": LogDebug, "DEBUG2": LogDebug, "DEBUG3": LogDebug,
}

func parseLogLevel(word string) (LogLevel, error) {
	level, known := logLevels[strings.ToUpper(word)]
	if !known {
		return 0, fmt.Errorf("log level %q: want QUIET, FATAL, ERROR, INFO, VERBOSE or DEBUG", word)
	}
	return level, nil
}

// logs reports whether lines of a level are wanted, for what is said of every
// packet.
func (s *session) logs(level LogLevel) bool { return level <= s.opts.LogLevel }

// say logs one line. What -l lets through is asked for, so it is information,
// whatever its level. Names from the client belong into it by way of quoted.
// It is safe for concurrent use.
func (s *session) say(level LogLevel, format string, args ...any) {
	if !s.logs(level) {
		return
	}
	line := fmt.Sprintf(format, args...)
	if s.opts.LogToStderr && s.opts.Stderr != nil {
		io.WriteString(s.opts.Stderr, line+"\r\n")
		return
	}
	s.log.Info(line)
}

// quoted is a client's text in quotes, with nothing in it that could forge a
// line of the log or reach the terminal of who reads it.
// It is made only if its line is wanted.
type quoted string

func (q quoted) String() string { return strconv.QuoteToGraphic(string(q)) }

// sayStatus logs how a request ended if it ended badly, or for the curious.
func (s *session) sayStatus(err error) {
	level := LogInfo
	if err == nil || err == io.EOF {
		level = LogDebug
	}
	if s.logs(level) {
		s.say(level, "sent status %s", statusMessages[statusOf(err)])
	}
}

// openFlagNames are OpenSSH's, in its order.
var openFlagNames = []struct {
	flag uint32
	name string
}{
	{openRead, "READ"}, {openWrite, "WRITE"}, {openAppend, "APPEND"},
	{openCreate, "CREATE"}, {openTruncate, "TRUNCATE"}, {openExclude, "EXCL"},
}

func openFlagString(flags uint32) string {
	var names []string
	for _, f := range openFlagNames {
		if flags&f.flag != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ",")
}

// note keeps what the audit record of the current request says, keys and
// values in turn. Without it the request leaves no record.
func (s *session) note(keyValues ...any) { s.noted = keyValues }

// record writes the audit record of a request that is done.
func (s *session) record(event string, err error) {
	if event == "" || s.noted == nil || s.opts.Audit == nil {
		return
	}
	if err != nil {
		s.noted = append(s.noted, "error", wording.Cause(err))
	}
	s.opts.Audit.Info("sftp."+event, s.noted...)
}

// audited is a path of the client's for the audit: from the start directory,
// and with bytes that are no text as escapes, since JSON cannot carry them.
func (s *session) audited(path string) string { return wording.UTF8(s.absolute(path)) }
