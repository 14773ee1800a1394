package authkeys

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/ssh"
)

// MaxList bounds a file of keys without options, in bytes.
const MaxList = 8 << 20

// ErrKRL is returned for a key revocation list, OpenSSH's binary form.
var ErrKRL = errors.New("a key revocation list (KRL) is not supported: list the keys, or their SHA256 fingerprints, one a line")

// krlMagic is how such a file begins (OpenSSH's PROTOCOL.krl).
const krlMagic = "SSHKRL\n\x00"

// KeyList is a file of keys without options, one a line: authorities that are
// trusted, or keys that are revoked.
type KeyList struct {
	keys         map[string]bool // as on the wire
	fingerprints map[string]bool
}

// ParseAuthorities reads a file of TrustedUserCAKeys (sshd_config(5)). The
// first line that is no key ends the list, as with sshd; the keys before it
// count.
func ParseAuthorities(r io.Reader) (KeyList, error) {
	return parseList(r, func(l KeyList, line string) error {
		key, _, err := parseKey(line)
		if err == nil {
			l.keys[string(key.Marshal())] = true
		}
		return err
	})
}

// ParseRevoked reads a file of RevokedKeys (sshd_config(5)): keys, certificates,
// or fingerprints as "ssh-keygen -l" prints them. After an error nobody knows
// what the rest would have revoked, so the caller must refuse every key.
func ParseRevoked(r io.Reader) (KeyList, error) {
	return parseList(r, func(l KeyList, line string) error {
		if print, ok := findFingerprint(line); ok {
			l.fingerprints[print] = true
			return nil
		}
		key, _, err := parseAnyKey(line)
		if err == nil {
			l.keys[string(Plain(key).Marshal())] = true
		}
		return err
	})
}

func parseList(r io.Reader, add func(KeyList, string) error) (KeyList, error) {
	l := KeyList{map[string]bool{}, map[string]bool{}}
	text, err := io.ReadAll(io.LimitReader(r, MaxList+1))
	switch {
	case err != nil:
		return l, fmt.Errorf("read keys: %w", err)
	case len(text) > MaxList:
		return l, fmt.Errorf("larger than %d bytes", MaxList)
	case bytes.HasPrefix(text, []byte(krlMagic)):
		return l, ErrKRL
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if err := add(l, line); err != nil {
			return l, fmt.Errorf("line %d: %w", number, err)
		}
	}
	return l, nil
}

// findFingerprint finds a fingerprint, perhaps after the size of its key. What
// only looks like one is none: it would revoke nothing, and nobody would know.
func findFingerprint(line string) (string, bool) {
	first, rest := cutBlank(line)
	if strings.Trim(first, "0123456789") == "" {
		first, _ = cutBlank(rest)
	}
	encoded, ok := strings.CutPrefix(first, "SHA256:")
	hash, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(encoded, "="))
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(hash), ok && err == nil && len(hash) == sha256.Size
}

// Plain is the key that a certificate is about, or the key itself.
func Plain(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

// Has tells whether a key is in the list. A certificate is if the key that it
// is about is.
func (l KeyList) Has(key ssh.PublicKey) bool {
	key = Plain(key)
	return l.keys[string(key.Marshal())] || l.fingerprints[ssh.FingerprintSHA256(key)]
}

// Revokes is Has, for revoked keys: what a revoked authority has signed is
// revoked as well.
func (l KeyList) Revokes(key ssh.PublicKey) bool {
	cert, ok := key.(*ssh.Certificate)
	return l.Has(key) || ok && l.Has(cert.SignatureKey)
}
