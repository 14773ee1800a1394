package sshdconfig

import "fmt"

// Error is a mistake in a configuration: sshd would end with status 255.
type Error struct {
	File string // "command-line" for an -o option
	Line int    // 0 for the file as a whole
	Err  error
}

// Error names the file and the line the way sshd does.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s: line %d: %v", e.File, e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// UsageError is a mistake in the command line: sshd would print it, and
// [Usage], and end with status 1.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

func usagef(format string, args ...any) error {
	return &UsageError{Text: fmt.Sprintf(format, args...)}
}
