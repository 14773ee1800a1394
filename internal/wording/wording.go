// Package wording writes what comes from outside, and what the system says of it,
// so that it can stand in a line for people.
package wording

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Escape makes visible what nobody but the administrator may write into a log:
// line breaks, and commands to the terminal of who reads it.
func Escape(text string) string {
	quoted := strconv.QuoteToGraphic(text)
	return quoted[1 : len(quoted)-1]
}

// UTF8 is the name of a file with \xNN for each byte that belongs to no character.
// JSON would make all of those the same.
func UTF8(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	var b strings.Builder
	for name != "" {
		r, n := utf8.DecodeRuneInString(name)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, name[0])
		} else {
			b.WriteString(name[:n])
		}
		name = name[n:]
	}
	return b.String()
}

// Cause is the system's word for an error, if the system has one, and else the
// error's own text.
func Cause(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// Reason is Cause with a capital letter where it is the system's word, as C
// programs print it (strerror(3)).
func Reason(err error) string {
	if text := Cause(err); errors.As(err, new(unix.Errno)) {
		return strings.ToUpper(text[:1]) + text[1:]
	}
	return err.Error()
}
