package sshd

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	glider "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"

	"buildenv/sshd/authkeys"
	"buildenv/sshd/forward"
	"buildenv/sshd/session"
	"buildenv/sshd/sshdconfig"
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
	refusals     int              // of keys
	hostname     string           // of remote, or its address; "" as long as nobody has asked

	replay []byte // read from the client before the library began
	said   int    // bytes that the library will write and the client has already
	wanted proposal

	began          time.Time
	received, sent atomic.Int64           // bytes
	reason         atomic.Pointer[string] // of the end, if it was the server's doing
	failure        error                  // of the library, at the end

	authenticated atomic.Bool
	granted       sshdconfig.Settings // of the user; set before authenticated
	forwarder     *forward.Forwarder  // likewise
	channels      channels
	sessionsSeen  atomic.Int32
	doorClosed    atomic.Bool // the client wants no more sessions
	announced     sync.Once   // our host keys
	marked        sync.Once   // the packets' type of service
}

func newConnection(r *rules, raw net.Conn) *connection {
	c := &connection{
		Conn: raw, server: r, remote: addrPort(raw.RemoteAddr()), local: addrPort(raw.LocalAddr()),
		complained: map[string]bool{}, settle: func() {}, began: time.Now(),
	}
	c.channels.c = c
	c.from = describe(c.remote)
	c.number = r.served.Add(1)
	c.audit = r.config.Audit.With("connection", c.number, "remote", endpointOf(c.remote))
	return c
}

// describe is "A port P", as sshd's log has it.
func describe(a netip.AddrPort) string {
	address, port := session.Endpoint(a)
	return fmt.Sprintf("%s port %d", address, port)
}

// addressOf is an address as sshd has it, which a client on a pipe has not.
func addressOf(a netip.AddrPort) string {
	address, _ := session.Endpoint(a)
	return address
}

// endpointOf is an address with its port for the audit.
func endpointOf(a netip.AddrPort) string {
	if !a.IsValid() {
		return addressOf(a)
	}
	return a.String()
}

func (c *connection) Read(p []byte) (int, error) {
	if len(c.replay) > 0 {
		n := copy(p, c.replay)
		if c.replay = c.replay[n:]; len(c.replay) == 0 {
			c.replay = nil // a connection may be idle for hours
		}
		return n, nil
	}
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	return n, err
}

func (c *connection) Write(p []byte) (int, error) {
	skip := min(c.said, len(p))
	c.said -= skip
	if skip == len(p) {
		return skip, nil
	}
	n, err := c.Conn.Write(p[skip:])
	c.sent.Add(int64(n))
	return skip + n, err
}

// SetDeadline does nothing. The library takes back all deadlines before every
// read and write; ours are timers that close the connection.
func (c *connection) SetDeadline(time.Time) error { return nil }

// serve is a connection from handshake to end. What goes wrong in it must not
// end the server.
func (c *connection) serve() {
	c.opened()
	defer c.closed()
	defer c.settle()
	defer c.channels.stop()
	defer c.endForwarding()
	defer c.Close()
	defer c.contain()
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
		ChannelHandlers: map[string]glider.ChannelHandler{
			"session":           c.handler(c.session),
			forward.LocalTCP:    c.handler(c.tunnel),
			forward.LocalSocket: c.handler(c.tunnel),
			"default":           c.handler(c.refuseChannel),
		},
		RequestHandlers:          c.requests(),
		ConnectionFailedCallback: func(_ net.Conn, err error) { c.failed(err) },
	}
	plumbing.HandleConn(c)
	c.left()
}

// session serves a session channel. Who the client is, is known from the
// connection's own permissions: the library's context has what was offered
// first, which need not be what was proven.
func (c *connection) session(conn *ssh.ServerConn, channel ssh.NewChannel) {
	login, ok := loginOf(conn.Permissions)
	if !ok {
		channel.Reject(ssh.Prohibited, "not authenticated")
		return
	}
	if c.mayOpenSession() {
		login.Serve(channel)
	}
}

func (c *connection) refuseChannel(_ *ssh.ServerConn, channel ssh.NewChannel) {
	c.server.log.Info("channel refused: unknown type", "type", channel.ChannelType(), "from", c.from)
	channel.Reject(ssh.Prohibited, "administratively prohibited")
}

// established is the connection after its handshake.
func (c *connection) established() (*ssh.ServerConn, bool) {
	if c.library == nil {
		return nil, false
	}
	conn, ok := c.library.Value(glider.ContextKeyConn).(*ssh.ServerConn)
	return conn, ok
}

// accepted notes that the client has proven who it is, and what holds for it.
func (c *connection) accepted(g grant, login *session.Login) {
	s := g.settings
	c.granted = s
	c.forwarder = forward.New(c.forwarding(g, login.Jail), opener{c})
	login.Agent = c.forwarder
	c.channels.begin(s)
	c.authenticated.Store(true)
	c.settle()
	if s.ClientAliveInterval > 0 {
		go c.keepAlive(s.ClientAliveInterval, s.ClientAliveCountMax) // ends with the connection
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
