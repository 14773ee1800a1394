package sshd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"buildenv/internal/pattern"
	"buildenv/sshd/authkeys"
	"buildenv/sshd/jail"
	"buildenv/sshd/session"
	"buildenv/sshd/sshdconfig"
)

// softwareVersion begins as it does because OpenSSH's client uses its own
// extensions, eow@openssh.com for one, only with servers that do (compat.c);
// without that one, "ssh host yes | head" never ends. The RFC allows no dash
// in it (RFC 4253, section 4.2).
const softwareVersion = "SSH-2.0-OpenSSH_compatible_buildenv"

// errNotOffered answers clients that try to come in without a key.
var errNotOffered = errors.New("only public keys authenticate here")

// handshake is the configuration of the SSH library for this connection.
//
// The library in between sets NoClientAuth, "let everybody in", on every
// configuration when it has no authentication handler of its own; and if it
// had one, that would replace PublicKeyCallback and share one set of
// permissions among all keys that a client offers. So it has none, and
// NoClientAuthCallback, which x/crypto/ssh asks before it lets anybody in,
// refuses.
func (c *connection) handshake() *ssh.ServerConfig {
	chosen := c.server.algorithms
	config := &ssh.ServerConfig{
		Config:                    chosen.Config,
		NoClientAuthCallback:      func(ssh.ConnMetadata) (*ssh.Permissions, error) { return nil, errNotOffered },
		PublicKeyCallback:         c.offered,
		VerifiedPublicKeyCallback: c.verified,
		BannerCallback:            c.banner,
		ServerVersion:             softwareVersion,
	}
	if addendum := c.server.static.VersionAddendum; addendum != "" {
		config.ServerVersion += " " + addendum
	}
	config.MaxAuthTries = 1 // should the settings be unreadable, nobody comes in anyway
	if settings, err := c.settings(user{}); err == nil {
		config.MaxAuthTries = settings.MaxAuthTries
		config.RekeyThreshold = settings.RekeyLimit
		config.PublicKeyAuthAlgorithms = signatures(settings.PubkeyAcceptedAlgorithms)
	}
	for _, key := range c.server.keys.all() {
		config.AddHostKey(key)
	}
	return config
}

// grant is what a key is good for: the settings in force for its user, and the
// options of its line.
type grant struct {
	user     user
	settings sshdconfig.Settings
	options  authkeys.Options
}

type grantKey struct{}

// offered decides whether a key would let its owner in. Nothing is proven yet:
// whatever is known is kept with the key, in permissions of its own.
func (c *connection) offered(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	c.user = nameOf(meta)
	g, err := c.authorize(meta.User(), key)
	if err != nil {
		c.server.log.Info(fmt.Sprintf("Failed publickey for %s%s from %s ssh2: %s", g.user.invalid(), c.user, c.from, label(key)), "reason", err)
		return nil, err
	}
	p := &ssh.Permissions{Extensions: map[string]string{}, ExtraData: map[any]any{grantKey{}: g}}
	if g.options.NoTouchRequired {
		p.Extensions["no-touch-required"] = ""
	}
	return p, nil
}

// verified is called when the client has signed with the key. A user whose
// jail is unfit is told so: nobody else could find out from outside.
func (c *connection) verified(meta ssh.ConnMetadata, key ssh.PublicKey, p *ssh.Permissions, _ string) (*ssh.Permissions, error) {
	c.user = nameOf(meta) // perhaps not the last one that was offered a key
	g := p.ExtraData[grantKey{}].(grant)
	login := c.login(g)
	if login.Jail != "" {
		if err := jail.CheckPath(login.Jail); err != nil {
			c.server.log.Error("login refused", "user", c.user, "from", c.from, "error", err)
			return nil, &ssh.BannerError{Err: err, Message: "login refused: " + err.Error() + "\n"}
		}
	}
	c.server.log.Info(fmt.Sprintf("Accepted publickey for %s from %s ssh2: %s", c.user, c.from, label(key)))
	c.accepted(g.settings.ClientAliveInterval, g.settings.ClientAliveCountMax)
	return withLogin(p, login), nil
}

// printable escapes what a client must not write into a log: whole lines of
// its own and commands to the terminal of who reads them.
func printable(text string) string {
	quoted := strconv.QuoteToGraphic(text)
	return quoted[1 : len(quoted)-1]
}

// nameOf is the user's name for the log. Its length is the client's choice.
func nameOf(meta ssh.ConnMetadata) string { return printable(fmt.Sprintf("%.64s", meta.User())) }

// label names a key as sshd's log does.
func label(key ssh.PublicKey) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(key.Type(), "ssh-"), "-")
	if strings.HasPrefix(key.Type(), "sk-") {
		kind = strings.TrimPrefix(strings.TrimPrefix(key.Type(), "sk-"), "ssh-")
		kind, _, _ = strings.Cut(strings.TrimSuffix(kind, "@openssh.com"), "-")
		kind += "-SK"
	}
	return strings.ToUpper(kind) + " " + ssh.FingerprintSHA256(key)
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
	if err := c.admit(g, key); err != nil {
		return g, err
	}
	entry, err := c.findKey(g, key)
	if err != nil {
		return g, err
	}
	if g.settings.PermitRootLogin == "forced-commands-only" && entry.Options.Command == "" {
		return g, errors.New("PermitRootLogin forced-commands-only, and the key has no command= option")
	}
	g.options = entry.Options
	return g, nil
}

// admit is what can be said before any file with keys is read.
func (c *connection) admit(g grant, key ssh.PublicKey) error {
	switch {
	case g.user.UID != 0:
		return errors.New("only root may log in: an image root is root's work")
	case locked(c.server.shadow, g.user.Name):
		return fmt.Errorf("account is locked by a ! in %s", c.server.shadow)
	case g.settings.PermitRootLogin == "no":
		return errors.New("ROOT LOGIN REFUSED: PermitRootLogin is no")
	case !g.settings.PubkeyAuthentication:
		return errors.New("PubkeyAuthentication is no")
	case !g.settings.AcceptsKey(key.Type()):
		return fmt.Errorf("key type %s not in PubkeyAcceptedAlgorithms", key.Type())
	case rsaBits(key) > 0 && rsaBits(key) < g.settings.RequiredRSASize:
		return fmt.Errorf("RSA key of %d bits: RequiredRSASize is %d", rsaBits(key), g.settings.RequiredRSASize)
	}
	return g.settings.Admit(c.criteria(g.user))
}

// login turns what a key is good for into what its sessions may do.
func (c *connection) login(g grant) *session.Login {
	s := g.settings
	policy := session.Policy{
		AcceptEnv:    s.AcceptEnv,
		SetEnv:       s.SetEnv,
		PermitTTY:    s.PermitTTY && !g.options.NoPTY,
		ForceCommand: s.ForceCommand,
		Subsystems:   s.Subsystems,
		MaxSessions:  s.MaxSessions,

		UserEnvironment: s.PermitUserEnvironment,
		PermitUserRC:    s.PermitUserRC && !g.options.NoUserRC,
	}
	if policy.ForceCommand == "" {
		policy.ForceCommand, policy.ForcedByKey = g.options.Command, true
	}
	for _, pair := range g.options.Environment {
		if name, _, _ := strings.Cut(pair, "="); pattern.List(s.PermitUserEnvironment, name) == pattern.Matched {
			policy.Environment = append(policy.Environment, pair)
		}
	}
	return &session.Login{
		Account: g.user.Account, Policy: policy, Jail: g.user.expand(s.ChrootDirectory),
		Remote: c.remote, Local: c.local,
		Greeting: c.server.greeting(s), TimeZone: c.server.config.TimeZone, Builtin: c.server.config.Builtin,
		Recordings: c.server.config.Recordings, Connection: c.number,
		Table: &c.server.sessions, Log: c.server.log, Audit: c.audit,
	}
}
