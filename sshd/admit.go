package sshd

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/authkeys"
	"buildenv/sshd/sshdconfig"
)

var (
	errChangedName = errors.New("the client changed the user's name")
	errProhibited  = errors.New("administratively prohibited connection")
)

// introduce notes who the client says it is. As with sshd it has to stay with
// its first answer. What is known of a name is logged once.
func (c *connection) introduce(meta ssh.ConnMetadata) error {
	if c.introduced {
		if shortName(meta) != c.name {
			c.server.log.Info(fmt.Sprintf("Change of username or service not allowed: (%s,ssh-connection) -> (%s,ssh-connection)", c.user, nameOf(meta)), "from", c.from)
			c.Close()
			return errChangedName
		}
		return nil
	}
	c.introduced, c.name, c.user = true, shortName(meta), nameOf(meta)
	u, err := lookUp(meta.User())
	c.invalid = u.invalid()
	if !u.known {
		c.server.log.Info(fmt.Sprintf("Invalid user %s from %s", c.user, c.from), "reason", err)
	}
	u.Name = meta.User()
	if settings, err := c.settings(u); err == nil && settings.RefuseConnection {
		c.server.log.Info(fmt.Sprintf("administratively prohibited connection for %s%s from %s", c.invalid, c.user, c.from))
		c.end(endedByRefusal)
		return errProhibited
	}
	return nil
}

// authorize asks everything that has a say in whether a user may log in with a key.
func (c *connection) authorize(name string, key ssh.PublicKey) (grant, error) {
	u, err := lookUp(name)
	g := grant{user: u}
	if err != nil {
		return g, err
	}
	if g.settings, err = c.settings(u); err != nil {
		return g, err
	}
	if err := errors.Join(c.admit(g), c.admitKey(g, key)); err != nil {
		return g, err
	}
	entry, err := c.findKey(g, key)
	if err != nil {
		return g, err
	}
	g.options, g.comment = entry.Options, entry.Comment
	err = c.restrict(&g, key)
	return g, err
}

// admit is what can be said of the user.
func (c *connection) admit(g grant) error {
	switch {
	case g.user.UID != 0:
		return errors.New("only root may log in: an image root is root's work")
	case locked(c.server.shadow, g.user.Name):
		return fmt.Errorf("account is locked by a ! in %s", c.server.shadow)
	case g.settings.PermitRootLogin == "no":
		return errors.New("ROOT LOGIN REFUSED: PermitRootLogin is no")
	case !g.settings.PubkeyAuthentication:
		return errors.New("PubkeyAuthentication is no")
	}
	return g.settings.Admit(c.criteria(g.user))
}

// admitKey is what can be said of a key before any file with keys is read.
func (c *connection) admitKey(g grant, key ssh.PublicKey) error {
	if bits := rsaBits(key); bits > 0 && bits < g.settings.RequiredRSASize {
		return fmt.Errorf("RSA key of %d bits: RequiredRSASize is %d", bits, g.settings.RequiredRSASize)
	}
	if !g.settings.AcceptsKey(key.Type()) {
		return fmt.Errorf("key type %s not in PubkeyAcceptedAlgorithms", key.Type())
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		if list := or(g.settings.CASignatureAlgorithms, sshdconfig.DefaultAlgorithms().CAKeys); !slices.Contains(list, cert.Signature.Format) {
			return fmt.Errorf("certificate signed with %q: not in CASignatureAlgorithms", cert.Signature.Format)
		}
	}
	if slices.ContainsFunc(c.proven, func(other ssh.PublicKey) bool { return sameKey(other, key) }) {
		return errors.New("refusing previously-used key")
	}
	return notRevoked(g.settings.RevokedKeys, key)
}

// sameKey compares keys, whoever certifies them.
func sameKey(a, b ssh.PublicKey) bool {
	return string(authkeys.Plain(a).Marshal()) == string(authkeys.Plain(b).Marshal())
}

// restrict adds what keeps a grant in bounds besides the key's own options.
func (c *connection) restrict(g *grant, key ssh.PublicKey) (err error) {
	if len(c.proven) > 0 {
		if g.options, err = authkeys.Merge(c.restrictions, g.options); err != nil {
			return err
		}
	}
	if g.settings.TouchRequired {
		g.options.NoTouchRequired = false
	}
	if waivesTouch(key) && !g.options.NoTouchRequired {
		// The library would not ask for the touch: the certificate is enough for it.
		return errors.New("certificate waives the touch of its security key, which the authority's line or PubkeyAuthOptions require")
	}
	if g.settings.PermitRootLogin == "forced-commands-only" && g.options.Command == "" {
		return errors.New("PermitRootLogin forced-commands-only, and the key has no command= option")
	}
	return nil
}

func waivesTouch(key ssh.PublicKey) bool {
	cert, ok := key.(*ssh.Certificate)
	if !ok || !strings.HasPrefix(cert.Key.Type(), "sk-") {
		return false
	}
	_, waives := cert.Extensions["no-touch-required"]
	return waives
}

// algorithmOf is the name by which PubkeyAcceptedAlgorithms knows a key that
// has signed with an algorithm: certificates have names of their own.
func algorithmOf(key ssh.PublicKey, signature string) string {
	if _, ok := key.(*ssh.Certificate); !ok {
		return signature
	}
	return certifiedSignature(signature)
}

func certifiedSignature(signature string) string {
	name, _, _ := strings.Cut(signature, "@")
	return name + "-cert-v01@openssh.com"
}

// rsaBits is the size of an RSA key, certified or not, 0 for other keys.
func rsaBits(key ssh.PublicKey) int {
	if wrapped, ok := authkeys.Plain(key).(ssh.CryptoPublicKey); ok {
		if k, ok := wrapped.CryptoPublicKey().(*rsa.PublicKey); ok {
			return k.N.BitLen()
		}
	}
	return 0
}

// welcome tells whether a client from there may try at all (sshd_config(5),
// RefuseConnection). Who it is, is not known yet.
func (c *connection) welcome() bool {
	settings, err := c.settings(user{})
	if err == nil && settings.RefuseConnection {
		c.end(endedByRefusal)
		c.server.log.Info("administratively prohibited connection from " + c.from)
		return false
	}
	return true
}
