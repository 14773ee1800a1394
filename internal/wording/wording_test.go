package wording

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "é ü": "é ü", "a\nb\x1b[2J\r": `a\nb\x1b[2J\r`, `say "x\"`: `say \"x\\\"`, "\xff": `\xff`,
	} {
		if got := Escape(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestUTF8(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "a\nb": "a\nb", "gr\xfcn": `gr\xfcn`, "\xc3": `\xc3`, "é\ufffd\xff": "é\ufffd" + `\xff`,
	} {
		if got := UTF8(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestReason(t *testing.T) {
	wrapped := fmt.Errorf("look: %w", &fs.PathError{Op: "open", Path: "x", Err: unix.ENOENT})
	for _, c := range []struct {
		err           error
		cause, reason string
	}{
		{wrapped, "no such file or directory", "No such file or directory"},
		{errors.New("our own words"), "our own words", "our own words"},
		{errors.New(""), "", ""},
	} {
		if cause, reason := Cause(c.err), Reason(c.err); cause != c.cause || reason != c.reason {
			t.Errorf("%v: %q and %q, want %q and %q", c.err, cause, reason, c.cause, c.reason)
		}
	}
}
