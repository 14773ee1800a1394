package sshd

import (
	"errors"
	"sync"

	glider "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"

	"buildenv/sshd/authkeys"
	"buildenv/sshd/forward"
	"buildenv/sshd/sshdconfig"
)

// forwarding is what a forwarder of this connection is made of. Paths of sockets
// are the jail's.
func (c *connection) forwarding(g grant, jail string) forward.Config {
	return forward.Config{
		Policy:       forwardingPolicy(g.settings, g.options),
		Root:         jail,
		Family:       c.server.static.AddressFamily,
		GatewayPorts: g.settings.GatewayPorts,
		SocketMask:   g.settings.StreamLocalBindMask,
		SocketUnlink: g.settings.StreamLocalBindUnlink,
		From:         c.from,
		Log:          c.server.log,
		Audit:        c.audit,
	}
}

// forwardingPolicy is what both the configuration and the key permit. As with
// sshd, no-port-forwarding of a key means Unix sockets, too.
func forwardingPolicy(s sshdconfig.Settings, o authkeys.Options) forward.Policy {
	if s.DisableForwarding {
		return forward.Policy{}
	}
	p := forward.Policy{
		Agent:  s.AllowAgentForwarding && !o.NoAgentForwarding,
		Open:   []forward.Permits{s.PermitOpen, o.PermitOpen},
		Listen: []forward.Permits{s.PermitListen, o.PermitListen},
	}
	if !o.NoPortForwarding {
		p.LocalTCP, p.RemoteTCP = directions(s.AllowTCPForwarding)
		p.LocalSocket, p.RemoteSocket = directions(s.AllowStreamLocalForwarding)
	}
	return p
}

// directions are those that a directive allows.
func directions(allowed string) (local, remote bool) {
	return allowed == "yes" || allowed == "local", allowed == "yes" || allowed == "remote"
}

// tunnel serves a channel to somewhere.
func (c *connection) tunnel(_ *ssh.ServerConn, channel ssh.NewChannel) { c.forwarder.Open(channel) }

// listen answers a request to listen for the client, or to end that. The library
// would answer once more with what is returned.
func (c *connection) listen(_ glider.Context, _ *glider.Server, r *ssh.Request) (bool, []byte) {
	defer c.contain()
	conn, ok := c.established()
	if !ok {
		return false, nil
	}
	c.announce(conn)
	c.forwarder.Answer(r)
	r.WantReply = false
	return false, nil
}

// stopForwarding ends what others see of a client's forwarding here. There is
// none before the client has authenticated.
func (c *connection) stopForwarding() {
	if c.authenticated.Load() {
		c.forwarder.Stop()
	}
}

// endForwarding waits until nothing is left of it. The connection has been closed.
func (c *connection) endForwarding() {
	if c.authenticated.Load() {
		c.forwarder.Close()
	}
}

var errNoConnection = errors.New("there is no connection yet")

// opener opens channels to the client, for who comes to a port that we listen on
// for it, or asks its agent. They count as the client's own do.
type opener struct{ c *connection }

var _ forward.Client = opener{}

func (o opener) OpenChannel(kind string, data []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	conn, ok := o.c.established()
	if !ok {
		return nil, nil, errNoConnection
	}
	g := &o.c.channels
	if !g.reserve() {
		return nil, nil, &ssh.OpenChannelError{Reason: ssh.ResourceShortage, Message: "too many channels"}
	}
	accepted, requests, err := conn.OpenChannel(kind, data)
	if err != nil {
		g.known.Add(-1)
		return nil, nil, err
	}
	ch := &outbound{channel: g.add(accepted, timeoutType(kind))}
	ch.gone = sync.OnceFunc(func() {
		g.known.Add(-1)
		g.remove(ch.channel)
	})
	return ch, ch.watch(requests), nil
}

// reserve counts a channel of ours unless there are too many. Others than the client
// make us open them, so unlike its own they must never look like a flood.
func (g *channels) reserve() bool {
	for {
		n := g.known.Load()
		if n >= maxChannels {
			return false
		}
		if g.known.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// timeoutType is how ChannelTimeout names a type of channel (sshd_config(5)).
func timeoutType(kind string) string {
	if kind == forward.AgentChannel {
		return "agent-connection"
	}
	return kind
}

// outbound is a channel that we have opened.
type outbound struct {
	*channel
	gone func()
}

func (o *outbound) Close() error {
	o.gone()
	return o.channel.Close()
}
