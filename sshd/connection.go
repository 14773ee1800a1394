package sshd

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	glider "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"

	"buildenv/sshd/authkeys"
	"buildenv/sshd/session"
)

// connection is a client's. It is the net.Conn that the SSH library sees, too.
type connection struct {
	net.Conn
	server        *rules
	remote, local netip.AddrPort
	from          string          // "A port P", as sshd's log has it
	library       glider.Context  // set when the handshake begins
	complained    map[string]bool // files of keys whose unusable lines have been logged; the handshake's goroutine only
	settle        func()          // the connection no longer counts as a startup
	number        int64           // counts the server's connections
	audit         *slog.Logger    // names the connection

	// What the client says it is, and has proven; the handshake's goroutine only.
	introduced   bool
	name, user   string // the user's, as sent and printable
	invalid      string // sshd's word before an unknown user's name
	proven       []ssh.PublicKey
	restrictions authkeys.Options // of those keys
	hostname     string           // of remote, or its address; "" as long as nobody has asked

	replay []byte // read from the client before the library began
	said   int    // bytes that the library will write and the client has already
	wanted proposal

	authenticated atomic.Bool
	received      atomic.Bool // something, since the keep-alive looked
}

func newConnection(r *rules, raw net.Conn) *connection {
	c := &connection{
		Conn: raw, server: r, remote: addrPort(raw.RemoteAddr()), local: addrPort(raw.LocalAddr()),
		complained: map[string]bool{}, settle: func() {},
	}
	c.from = describe(c.remote)
	c.number = r.served.Add(1)
	c.audit = r.config.Audit.With("connection", c.number, "remote", c.remote.String())
	return c
}

// describe is "A port P", as sshd's log has it.
func describe(a netip.AddrPort) string {
	if !a.IsValid() {
		return addressOf(a) + " port 65535"
	}
	return fmt.Sprintf("%s port %d", a.Addr(), a.Port())
}

// addressOf is an address as sshd has it, which a client on a pipe has not.
func addressOf(a netip.AddrPort) string {
	if !a.IsValid() {
		return "UNKNOWN"
	}
	return a.Addr().String()
}

func (c *connection) Read(p []byte) (int, error) {
	if len(c.replay) > 0 {
		n := copy(p, c.replay)
		c.replay = c.replay[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.received.Store(true)
	}
	return n, err
}

func (c *connection) Write(p []byte) (int, error) {
	skip := min(c.said, len(p))
	c.said -= skip
	if skip == len(p) {
		return skip, nil
	}
	n, err := c.Conn.Write(p[skip:])
	return skip + n, err
}

// SetDeadline does nothing. The library takes back all deadlines before every
// read and write; ours are timers that close the connection.
func (c *connection) SetDeadline(time.Time) error { return nil }

// serve is a connection from handshake to end. What goes wrong in it must not
// end the server.
func (c *connection) serve() {
	defer c.contain()
	defer c.settle()
	defer c.Close()
	if limit := c.server.static.LoginGraceTime; limit > 0 {
		grace := time.AfterFunc(limit, c.outOfTime)
		defer grace.Stop()
	}
	if !c.welcome() {
		return
	}
	c.foresee()
	plumbing := &glider.Server{
		ServerConfigCallback: func(ctx glider.Context) *ssh.ServerConfig {
			c.library = ctx
			return c.handshake()
		},
		ChannelHandlers:          map[string]glider.ChannelHandler{"session": c.session, "default": c.refuseChannel},
		ConnectionFailedCallback: c.failed,
	}
	plumbing.HandleConn(c)
	c.left()
}

func (c *connection) contain() {
	if p := recover(); p != nil {
		c.server.log.Error("panic contained", "in", "connection", "from", c.from, "panic", p, "stack", string(debug.Stack()))
	}
}

func (c *connection) outOfTime() {
	if !c.authenticated.Load() {
		c.server.log.Info("Timeout before authentication for " + c.from)
		c.Close()
	}
}

// session serves a session channel. Who the client is, is known from the
// connection's own permissions: the library's context has what was offered
// first, which need not be what was proven.
func (c *connection) session(_ *glider.Server, conn *ssh.ServerConn, channel ssh.NewChannel, _ glider.Context) {
	defer c.contain()
	login, ok := loginOf(conn.Permissions)
	if !ok {
		channel.Reject(ssh.Prohibited, "not authenticated")
		return
	}
	login.Serve(channel)
}

func (c *connection) refuseChannel(_ *glider.Server, _ *ssh.ServerConn, channel ssh.NewChannel, _ glider.Context) {
	c.server.log.Info("channel refused: this server does not forward", "type", channel.ChannelType(), "from", c.from)
	channel.Reject(ssh.Prohibited, "administratively prohibited")
}

// failed logs a handshake that came to nothing. One without a word from the
// client is a probe, of which a cluster has many.
func (c *connection) failed(_ net.Conn, err error) {
	log, reason := c.server.log, printable(err.Error())
	who := c.from
	if c.introduced {
		who = cmp.Or(c.invalid, "authenticating user ") + c.user + " " + c.from
	}
	switch {
	case exhausted(err):
		log.Error(fmt.Sprintf("maximum authentication attempts exceeded for %s%s from %s ssh2 [preauth]", c.invalid, c.user, c.from))
		log.Info(fmt.Sprintf("Disconnecting %s: Too many authentication failures [preauth]", who))
	case c.introduced || c.received.Load():
		log.Info(fmt.Sprintf("Connection closed by %s [preauth]", who), "reason", reason)
	default:
		log.Debug(fmt.Sprintf("Connection closed by %s [preauth]", who), "reason", reason)
	}
}

// exhausted tells that MaxAuthTries, or the library's own limit, was reached. The
// last error is then the library's message to the client; earlier ones may
// quote the client.
func exhausted(err error) bool {
	var failures *ssh.ServerAuthError
	if !errors.As(err, &failures) || len(failures.Errors) == 0 {
		return false
	}
	return strings.HasPrefix(failures.Errors[len(failures.Errors)-1].Error(), "ssh: disconnect, reason 2: ")
}

// left logs the end of an authenticated connection.
func (c *connection) left() {
	conn, ok := c.established()
	if !ok {
		return
	}
	if said, ok := disconnect(conn.Wait()); ok {
		c.server.log.Info(fmt.Sprintf("Received disconnect from %s:%s", c.from, printable(fmt.Sprintf("%.200s", said))))
	}
	c.server.log.Info(fmt.Sprintf("Disconnected from user %s %s", nameOf(conn), c.from))
}

// disconnect is what the client said when it left, "11: disconnected by user" for
// one. The library quotes the text; the error's type is its own secret.
func disconnect(err error) (said string, ok bool) {
	said, ok = strings.CutPrefix(err.Error(), "ssh: disconnect, reason ")
	number, quoted, _ := strings.Cut(said, ": ")
	if text, err := strconv.Unquote(quoted); err == nil {
		said = number + ": " + text
	}
	return said, ok
}

// established is the connection after its handshake.
func (c *connection) established() (*ssh.ServerConn, bool) {
	if c.library == nil {
		return nil, false
	}
	conn, ok := c.library.Value(glider.ContextKeyConn).(*ssh.ServerConn)
	return conn, ok
}

// accepted notes that the client has proven who it is.
func (c *connection) accepted(interval time.Duration, countMax int) {
	c.authenticated.Store(true)
	c.settle()
	if interval > 0 {
		go c.keepAlive(interval, countMax)
	}
}

type loginKey struct{}

// withLogin binds a login to the key that was proven.
func withLogin(p *ssh.Permissions, l *session.Login) *ssh.Permissions {
	p.ExtraData[loginKey{}] = l
	return p
}

func loginOf(p *ssh.Permissions) (*session.Login, bool) {
	if p == nil {
		return nil, false
	}
	l, ok := p.ExtraData[loginKey{}].(*session.Login)
	return l, ok
}
