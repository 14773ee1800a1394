// Package redact keeps secrets out of logs, errors and output.
//
// A secret leaks where nobody thought of it: a configuration printed as a
// whole, a URL in an error of net/http. So the value itself knows how to be
// printed, and [URL] cleans text that others made.
package redact

import (
	"fmt"
	"io"
	"log/slog"
)

// Mark stands where a secret was.
const Mark = "**redacted**"

// Secret is a string that fmt, slog and encoders print as [Mark]; string(s) is
// its value. An empty one prints empty: it hides nothing, and that a password
// is missing is worth seeing. fmt asks no method of a value in an unexported
// struct field, so a Secret belongs in an exported one.
type Secret string

// String is Mark, or empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return Mark
}

// Format prints the same for every verb: a wrong one such as %d would
// otherwise show the value in its complaint.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue is what slog's handlers print.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is what encoding/json and other encoders write.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
