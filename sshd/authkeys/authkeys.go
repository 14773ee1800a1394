// Package authkeys reads authorized_keys files (sshd(8), AUTHORIZED_KEYS FILE
// FORMAT) and decides whether a key in one lets a client in.
//
// A line is a public key, perhaps with options before it and a comment after
// it. An option restricts what the key may be used for, so a line with an
// option that cannot be honoured is refused as a whole: a key that its owner
// tied down must never come loose because a server did not understand how.
// Refused lines are reported as problems and the rest of the file counts, as
// with sshd.
//
// The package checks no signatures. It compares keys, and the SSH handshake
// proves that the client holds the one it names.
package authkeys

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// MaxFile and MaxLine bound what is read, in bytes.
const (
	MaxFile = 1 << 20
	MaxLine = 8 << 10
)

// ErrNoKey is returned when no entry holds the key in question.
var ErrNoKey = errors.New("key is not authorized")

// Entry is one line of an authorized_keys file.
type Entry struct {
	Key     ssh.PublicKey
	Comment string // as written after the key, "" for none
	Options Options
	Line    int // counted from 1
}

// Parse reads a file. Every line that holds neither a usable key nor a comment
// is a problem that names the line, and is left out; so is what lies beyond
// the bounds. The caller knows the file's name and adds it.
func Parse(r io.Reader) (entries []Entry, problems []error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		problems = append(problems, fmt.Errorf("read keys: %w", err))
	}
	if len(text) > MaxFile {
		problems = append(problems, fmt.Errorf("larger than %d bytes: the keys beyond are not read", MaxFile))
		text = text[:bytes.LastIndexByte(text, '\n')+1]
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		entry, ok, err := parseLine(strings.Trim(line, " \t\r\n"))
		if err != nil {
			problems = append(problems, fmt.Errorf("line %d: %w", number, err))
		} else if ok {
			entry.Line = number
			entries = append(entries, entry)
		}
	}
	return entries, problems
}

// parseLine reads one line; ok is false for an empty one and for a comment.
func parseLine(line string) (entry Entry, ok bool, err error) {
	if len(line) > MaxLine {
		return Entry{}, false, fmt.Errorf("longer than %d bytes", MaxLine)
	}
	if line == "" || line[0] == '#' {
		return Entry{}, false, nil
	}
	if !startsWithKey(line) {
		var options string
		if options, line, err = cutOptions(line); err != nil {
			return Entry{}, false, err
		}
		if entry.Options, err = parseOptions(options); err != nil {
			return Entry{}, false, err
		}
	}
	entry.Key, entry.Comment, err = parseKey(line)
	return entry, err == nil, err
}

// startsWithKey tells a key from options: no option begins like a key type.
func startsWithKey(line string) bool {
	for _, prefix := range []string{"ssh-", "ecdsa-", "sk-"} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

func parseKey(text string) (ssh.PublicKey, string, error) {
	kind, rest := cutBlank(text)
	encoded, comment := cutBlank(rest)
	if encoded == "" {
		return nil, "", errors.New("no key on the line")
	}
	blob, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, "", fmt.Errorf("%s key: %w", kind, err)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, "", fmt.Errorf("%s key: %w", kind, err)
	}
	if key.Type() != kind {
		return nil, "", fmt.Errorf("%s key: the data is a key of type %s", kind, key.Type())
	}
	if _, isCertificate := key.(*ssh.Certificate); isCertificate {
		return nil, "", fmt.Errorf("%s: a certificate, where a key is wanted: list the plain key, or its authority with cert-authority", kind)
	}
	return key, comment, nil
}

// cutBlank splits text after its first word.
func cutBlank(text string) (word, rest string) {
	end := strings.IndexAny(text, " \t")
	if end < 0 {
		return text, ""
	}
	return text[:end], strings.TrimLeft(text[end:], " \t")
}

// find returns the first entry that holds key itself. Entries of certificate
// authorities never match a plain key.
func find(entries []Entry, key ssh.PublicKey) (Entry, bool) {
	wanted := key.Marshal()
	for _, entry := range entries {
		if !entry.Options.CertAuthority && bytes.Equal(entry.Key.Marshal(), wanted) {
			return entry, true
		}
	}
	return Entry{}, false
}

// Authorize returns the first entry that holds key and whose options permit a
// client from there at that time: like sshd, it goes on to a later line for
// the same key when an earlier one refuses. The error is ErrNoKey, or the
// reason of the last line that refused. Options.Permit explains the arguments.
func Authorize(entries []Entry, key ssh.PublicKey, remote netip.Addr, host string, now time.Time) (Entry, error) {
	refusal := ErrNoKey
	for {
		entry, ok := find(entries, key)
		if !ok {
			return Entry{}, refusal
		}
		err := entry.Options.Permit(remote, host, now)
		if err == nil {
			return entry, nil
		}
		refusal = fmt.Errorf("line %d: %w", entry.Line, err)
		entries = after(entries, entry.Line)
	}
}

// after leaves out the entries up to a line.
func after(entries []Entry, line int) []Entry {
	for i, entry := range entries {
		if entry.Line > line {
			return entries[i:]
		}
	}
	return nil
}
