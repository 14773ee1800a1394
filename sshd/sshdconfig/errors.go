package sshdconfig

import (
	"errors"
	"fmt"
)

// Error is a mistake in a configuration: sshd would end with status 255.
type Error struct {
	File string // "command-line" for an -o option
	Line int    // 0 for the file as a whole, and on the command line
	Err  error
}

// Error names the file and the line the way sshd does, with its one exception
// for unknown keywords.
func (e *Error) Error() string {
	switch {
	case e.Line == 0 && e.File != onCommandLine:
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	case errors.Is(e.Err, errBadOption):
		return fmt.Sprintf("%s: line %d: %v", e.File, e.Line, e.Err)
	}
	return fmt.Sprintf("%s line %d: %v", e.File, e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// says makes an error of sshd's own words, which may begin with a capital
// letter, and what there is to add to them.
func says(format string, args ...any) error { return verdict(fmt.Sprintf(format, args...)) }

type verdict string

func (v verdict) Error() string { return string(v) }

// counts is says for the mistakes that do not end the reading of a file: sshd
// tells all of them and then their number.
func counts(format string, args ...any) error { return counted(fmt.Sprintf(format, args...)) }

type counted string

func (c counted) Error() string { return string(c) }

// errBadOption marks unknown keywords.
var errBadOption = counts("Bad configuration option")

func isCounted(err error) bool {
	var c counted
	return errors.As(err, &c)
}

// UsageError is a mistake in the command line: sshd would print it, and
// [Usage], and end with status 1.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

func usagef(format string, args ...any) error {
	return &UsageError{Text: fmt.Sprintf(format, args...)}
}
