// Package forward carries connections through an SSH connection (RFC 4254,
// section 7; OpenSSH PROTOCOL, section 2.4): TCP and Unix sockets, both ways,
// and the client's authentication agent.
//
// The words: a [Forwarder] belongs to one authenticated connection and does
// what its [Policy] lets it do. The client asks it for a channel to somewhere
// ("local" forwarding, ssh -L, -D, -W), or to listen here and to open a channel
// to the client for everybody who comes ("remote", ssh -R); a remote listener
// is a bound. Each channel with the socket on its other end is a tunnel.
//
// Where things are: names and TCP addresses are those of the server, as the
// network is one for all. Paths of sockets are resolved inside the user's jail,
// with chroot semantics, and so is the socket of the agent, which therefore
// works there; with OpenSSH, whose forwarding stays outside of its chroot, it
// does not. Policies, reasons and log lines are OpenSSH's; who may listen on
// which address is in gateway.go.
//
// The two directions of a tunnel end one by one. What one side has to say after
// the other has finished arrives: "send the request, close, read the answer" is
// how many protocols work. A side that reads slowly holds up its own tunnel and
// no other: each direction has a goroutine, and what it holds is bounded by
// the channel's window.
//
// The end: [Forwarder.Stop] closes listeners, removes their sockets from the
// image root and closes the server's end of all tunnels; [Forwarder.Close]
// waits, too, until no tunnel is left, and so comes after the SSH connection's
// own end. Agents' sockets that a killed server has left are found by their
// name ([Sweep]); others are not, like all that a user makes.
//
// What is forwarded is in the audit log: forward.listening, forward.opened and
// forward.closed, which has the amounts, and forward.refused.
//
// X11, tunnel devices and limits on bandwidth are not offered. Dynamic
// forwarding (ssh -D) is local forwarding to the server: SOCKS is spoken
// between the client and its user.
package forward
