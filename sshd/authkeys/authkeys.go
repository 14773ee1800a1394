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
	problems = eachLine(r, func(number int, line string) error {
		entry, err := parseLine(line)
		if err == nil {
			entry.Line = number
			entries = append(entries, entry)
		}
		return err
	})
	return entries, problems
}

// eachLine calls use with every line but empty ones and comments, and collects
// its errors.
func eachLine(r io.Reader, use func(number int, line string) error) (problems []error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		problems = append(problems, fmt.Errorf("read keys: %w", err))
	}
	if len(text) > MaxFile {
		problems = append(problems, fmt.Errorf("larger than %d bytes: the lines beyond are not read", MaxFile))
		text = text[:bytes.LastIndexByte(text, '\n')+1]
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		err := fmt.Errorf("longer than %d bytes", MaxLine)
		if len(line) <= MaxLine {
			err = use(number, line)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("line %d: %w", number, err))
		}
	}
	return problems
}

func parseLine(line string) (entry Entry, err error) {
	if !startsWithKey(line) {
		var options string
		if options, line, err = cutOptions(line); err != nil {
			return Entry{}, err
		}
		if entry.Options, err = parseOptions(options); err != nil {
			return Entry{}, err
		}
	}
	entry.Key, entry.Comment, err = parseKey(line)
	if err == nil && entry.Options.verify && (entry.Options.CertAuthority || strings.HasPrefix(entry.Key.Type(), "sk-")) {
		return Entry{}, errVerify
	}
	entry.Options.verify = false
	return entry, err
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

// parseKey reads a key that is not a certificate.
func parseKey(text string) (ssh.PublicKey, string, error) {
	key, comment, err := parseAnyKey(text)
	if _, isCertificate := key.(*ssh.Certificate); isCertificate {
		return nil, "", fmt.Errorf("%s: a certificate, where a key is wanted: list the plain key, or its authority with cert-authority", key.Type())
	}
	return key, comment, err
}

func parseAnyKey(text string) (ssh.PublicKey, string, error) {
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

// Client is who wants to log in, and when.
type Client struct {
	User   string
	Remote netip.Addr
	Host   string // name of Remote; "" when names are not looked up, and patterns of names then see the address
	Now    time.Time
}

// Authorize returns the first entry that holds key, or the authority of the
// certificate that key is, and whose options permit the client. Like sshd it
// goes on to a later line when an earlier one refuses. For a certificate the
// options are what both, line and certificate, allow. The error is ErrNoKey,
// or the reason of the last line that refused.
func Authorize(entries []Entry, key ssh.PublicKey, c Client) (Entry, error) {
	wanted := key
	cert, isCertificate := key.(*ssh.Certificate)
	if isCertificate {
		wanted = cert.SignatureKey
	}
	blob := wanted.Marshal()
	refusal := ErrNoKey
	for _, entry := range entries {
		if entry.Options.CertAuthority != isCertificate || !bytes.Equal(entry.Key.Marshal(), blob) {
			continue
		}
		err := entry.admit(cert, c)
		if err == nil {
			return entry, nil
		}
		refusal = fmt.Errorf("line %d: %w", entry.Line, err)
	}
	return Entry{}, refusal
}

// admit asks the options of an entry and, if it is not nil, the certificate.
func (e *Entry) admit(cert *ssh.Certificate, c Client) error {
	if err := e.Options.Permit(c.Remote, c.Host, c.Now); err != nil || cert == nil {
		return err
	}
	names := []string{c.User}
	if e.Options.Principals != nil {
		names = e.Options.Principals
	}
	certified, err := certify(cert, names, c)
	if err == nil {
		e.Options, err = Merge(e.Options, certified)
	}
	return err
}
