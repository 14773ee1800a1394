package sshd

import (
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"buildenv/internal/wording"
	"buildenv/sshd/authkeys"
)

// maxAuditText bounds what is kept of a comment or an id, whose length is
// somebody else's choice.
const maxAuditText = 1024

// nameOf is the user's name for the log. Its length is the client's choice.
func nameOf(meta ssh.ConnMetadata) string { return wording.Escape(shortName(meta)) }

func shortName(meta ssh.ConnMetadata) string { return fmt.Sprintf("%.64s", meta.User()) }

// label names a key as sshd's log does (format_method_key in OpenSSH's auth2.c):
// its kind and fingerprint, and who certifies it as what.
func (c *connection) label(key ssh.PublicKey) string {
	label := kindOf(key) + " " + c.fingerprint(key)
	if cert, ok := key.(*ssh.Certificate); ok {
		id := wording.Escape(fmt.Sprintf("%.*s", maxAuditText, cert.KeyId))
		label += fmt.Sprintf(" ID %s (serial %d) CA %s %s", id, cert.Serial, kindOf(cert.SignatureKey), c.fingerprint(cert.SignatureKey))
	}
	return label
}

// kindOf is sshd's short name for a type of key: ED25519, RSA, ECDSA-SK-CERT.
func kindOf(key ssh.PublicKey) string {
	name, _, _ := strings.Cut(key.Type(), "@")
	name, certified := strings.CutSuffix(name, "-cert-v01")
	name, security := strings.CutPrefix(name, "sk-")
	kind, _, _ := strings.Cut(strings.TrimPrefix(name, "ssh-"), "-")
	if security {
		kind += "-sk"
	}
	if certified {
		kind += "-cert"
	}
	return strings.ToUpper(kind)
}

// fingerprint is that of the key itself, also of a certified one, in the hash
// that FingerprintHash asks for; for one that is not to be had it is sshd's default.
func (c *connection) fingerprint(key ssh.PublicKey) string {
	return fingerprint(key, c.server.static.FingerprintHash)
}

func fingerprint(key ssh.PublicKey, hash string) string {
	key = authkeys.Plain(key)
	if hash == "md5" {
		return "MD5:" + ssh.FingerprintLegacyMD5(key)
	}
	return ssh.FingerprintSHA256(key)
}

// auditKey writes an event about a key. Texts in it are hostile; JSON escapes
// them.
func (c *connection) auditKey(event string, key ssh.PublicKey, more ...any) {
	about := []any{"user", c.name, "method", "publickey", "key", key.Type(), "fingerprint", c.fingerprint(key)}
	if cert, ok := key.(*ssh.Certificate); ok {
		about = append(about, "certificate", fmt.Sprintf("%.*s", maxAuditText, cert.KeyId),
			"serial", cert.Serial, "ca", c.fingerprint(cert.SignatureKey))
	}
	c.audit.Info(event, append(about, more...)...)
}

// commented is the comment of a line with a key, if it has one.
func commented(comment string) []any {
	if comment == "" {
		return nil
	}
	return []any{"comment", fmt.Sprintf("%.*s", maxAuditText, comment)}
}

// authInfo is what SSH_USER_AUTH's file says: a line for each proof (sshd_config(5), ExposeAuthInfo).
func (g grant) authInfo() string {
	if !g.settings.ExposeAuthInfo {
		return ""
	}
	var text strings.Builder
	for _, key := range g.keys {
		text.WriteString("publickey " + string(ssh.MarshalAuthorizedKey(key)))
	}
	return text.String()
}
