package sshd

import (
	"errors"
	"fmt"
	"slices"
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

// identification is what our first line says (RFC 4253, section 4.2).
func (r *rules) identification() string {
	if addendum := r.static.VersionAddendum; addendum != "" {
		return softwareVersion + " " + addendum
	}
	return softwareVersion
}

// handshake is the configuration of the SSH library for this connection.
//
// The library in between sets NoClientAuth, "let everybody in", on every
// configuration when it has no authentication handler of its own; and if it
// had one, that would replace PublicKeyCallback and share one set of
// permissions among all keys that a client offers. So it has none, and
// NoClientAuthCallback, which x/crypto/ssh asks before it lets anybody in,
// refuses.
func (c *connection) handshake() *ssh.ServerConfig {
	config := &ssh.ServerConfig{
		Config:                    c.offer(),
		NoClientAuthCallback:      c.without,
		PublicKeyCallback:         c.offered,
		VerifiedPublicKeyCallback: c.verified,
		BannerCallback:            c.banner,
		ServerVersion:             c.server.identification(),
	}
	config.MaxAuthTries = 1 // should the settings be unreadable, nobody comes in anyway
	if settings, err := c.settings(onlyUser()); err == nil {
		config.MaxAuthTries = max(settings.MaxAuthTries, 1) // the library takes 0 for its own default, 6
		config.RekeyThreshold = settings.RekeyLimit
		config.PublicKeyAuthAlgorithms = signatures(settings.PubkeyAcceptedAlgorithms)
	}
	for _, key := range c.server.keys.all() {
		config.AddHostKey(key)
	}
	return config
}

// onlyUser is whose settings count where the library wants to know them before
// it knows the user: nobody else is let in.
func onlyUser() user {
	u, err := lookUp(session.Root.Name)
	if err != nil {
		return user{}
	}
	return u
}

// without answers a client that wants to come in without a key, or to know how
// it could.
func (c *connection) without(meta ssh.ConnMetadata) (*ssh.Permissions, error) {
	if err := c.introduce(meta); err != nil {
		return nil, err
	}
	return nil, errNotOffered
}

// grant is what a key is good for: the settings in force for its user, and the
// options of its line, its certificate, or both.
type grant struct {
	user     user
	settings sshdconfig.Settings
	options  authkeys.Options
	comment  string          // of the line that the key, or its authority, was found on
	keys     []ssh.PublicKey // that it took
}

type grantKey struct{}

// offered decides whether a key would let its owner in. Nothing is proven yet:
// whatever is known is kept with the key, in permissions of its own.
func (c *connection) offered(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if err := c.introduce(meta); err != nil {
		return nil, err
	}
	g, err := c.authorize(meta.User(), key)
	if err != nil {
		c.refused(key, err)
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
func (c *connection) verified(meta ssh.ConnMetadata, key ssh.PublicKey, p *ssh.Permissions, algorithm string) (*ssh.Permissions, error) {
	if err := c.introduce(meta); err != nil {
		return nil, err
	}
	g := p.ExtraData[grantKey{}].(grant)
	if name := algorithmOf(key, algorithm); !slices.Contains(or(g.settings.PubkeyAcceptedAlgorithms, sshdconfig.DefaultAlgorithms().UserKeys), name) {
		err := fmt.Errorf("signature algorithm %s not in PubkeyAcceptedAlgorithms", name)
		c.refused(key, err)
		return nil, err
	}
	g.keys = append(slices.Clone(c.proven), key)
	if len(g.keys) < g.settings.PublicKeys {
		return nil, c.another(g)
	}
	login := c.login(g)
	if login.Jail != "" {
		if err := jail.CheckPath(login.Jail); err != nil {
			c.server.log.Error("login refused", "user", c.user, "from", c.from, "error", err)
			c.auditKey("auth.refused", key, "reason", err.Error())
			return nil, &ssh.BannerError{Err: err, Message: "login refused: " + err.Error() + "\n"}
		}
	}
	c.letIn(g, key, login)
	return withLogin(p, login), nil
}

// another asks for one more key, a different one (sshd_config(5),
// AuthenticationMethods publickey,publickey). What this one may do is kept, and
// what the next one may do is added to its restrictions.
func (c *connection) another(g grant) error {
	c.proven, c.restrictions = g.keys, g.options
	key := g.keys[len(g.keys)-1]
	c.server.log.Info(fmt.Sprintf("Partial publickey for %s from %s ssh2: %s", c.user, c.from, c.label(key)))
	c.auditKey("auth.partial", key, commented(g.comment)...)
	return &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{PublicKeyCallback: c.offered}}
}

// letIn tells who has come in, and with what.
func (c *connection) letIn(g grant, key ssh.PublicKey, login *session.Login) {
	c.server.log.Info(fmt.Sprintf("Accepted publickey for %s from %s ssh2: %s", c.user, c.from, c.label(key)))
	c.auditKey("auth.accepted", key, commented(g.comment)...)
	c.accepted(g, login)
}

// refused tells who has not, and why.
func (c *connection) refused(key ssh.PublicKey, reason error) {
	c.refusals++
	why := fmt.Sprintf("%.*s", maxAuditText, reason) // a certificate's algorithm may be any text
	c.server.log.Info(fmt.Sprintf("Failed publickey for %s%s from %s ssh2: %s", c.invalid, c.user, c.from, c.label(key)), "reason", why)
	c.auditKey("auth.refused", key, "reason", why)
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
		AuthInfo: g.authInfo(),
		Account:  g.user.Account, Policy: policy, Jail: g.user.expand(s.ChrootDirectory),
		Remote: c.remote, Local: c.local,
		Greeting: c.server.greeting(s), TimeZone: c.server.config.TimeZone, Builtin: c.server.config.Builtin,
		Recordings: c.server.config.Recordings, Connection: c.number,
		Table: &c.server.sessions, Log: c.server.log, Audit: c.audit,
	}
}
