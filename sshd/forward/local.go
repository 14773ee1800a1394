package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"

	"buildenv/internal/wording"
)

// refusal is sshd's text for a channel that is not opened, with a reason beside it.
const refusal = "open failed"

// destination is where a client wants to go.
type destination struct {
	event
	reason  ssh.RejectionReason // when it may not
	allowed bool
	denial  string             // sshd's line for the log, when it may not
	failure func(error) string // likewise, when it cannot
	dial    func(context.Context) (net.Conn, error)
}

// Open serves a channel to somewhere that the client asks for, until it is closed.
func (f *Forwarder) Open(newChannel ssh.NewChannel) {
	defer f.contain(newChannel.ChannelType())
	to, err := f.parse(newChannel)
	switch {
	case err != nil:
		f.config.Log.Info("channel refused", "type", newChannel.ChannelType(), "from", f.config.From, "reason", err)
		newChannel.Reject(ssh.Prohibited, refusal)
		return
	case !to.allowed:
		f.config.Log.Info(to.denial)
		f.refused(to.event, "not permitted")
		newChannel.Reject(to.reason, refusal)
		return
	}
	if err := f.enter(); err != nil {
		f.config.Log.Info("channel refused", to.attrs("from", f.config.From, "reason", err)...)
		f.refused(to.event, err.Error())
		newChannel.Reject(ssh.ResourceShortage, refusal)
		return
	}
	defer f.leave()
	f.open(newChannel, to)
}

func (f *Forwarder) open(newChannel ssh.NewChannel, to destination) {
	ctx, cancel := context.WithTimeout(f.ctx, dialPatience)
	conn, err := to.dial(ctx)
	cancel()
	if err != nil {
		f.config.Log.Info(to.failure(err), "reason", explain(err), "from", f.config.From)
		f.refused(to.event, explain(err))
		newChannel.Reject(ssh.ConnectionFailed, explain(err))
		return
	}
	channel, requests, err := newChannel.Accept()
	if err != nil {
		conn.Close()
		return // the connection is gone
	}
	f.carry(to.event, channel, requests, conn.(socket))
}

func (f *Forwarder) parse(c ssh.NewChannel) (destination, error) {
	if c.ChannelType() == LocalSocket {
		return f.toSocket(c.ExtraData())
	}
	return f.toTCP(c.ExtraData())
}

// toTCP reads a direct-tcpip request (RFC 4254, section 7.2).
func (f *Forwarder) toTCP(data []byte) (destination, error) {
	var m struct {
		Host       string
		Port       uint32
		Originator string
		From       uint32
	}
	if err := ssh.Unmarshal(data, &m); err != nil {
		return destination{}, err
	}
	if m.Port > 0xFFFF || m.From > 0xFFFF {
		return destination{}, errors.New("invalid port")
	}
	host := printable(m.Host)
	d := destination{
		event: event{direction: "local", kind: "tcp",
			target: join(host, m.Port), originator: join(printable(m.Originator), m.From)},
		reason:  ssh.Prohibited,
		allowed: f.config.Policy.Opens(m.Host, int(m.Port)),
		denial:  fmt.Sprintf("Received request from %s to connect to host %s port %d, but the request was denied.", f.config.From, host, m.Port),
		failure: func(err error) string { return failureOf(host, m.Port, err) },
		dial:    func(ctx context.Context) (net.Conn, error) { return f.dialTCP(ctx, m.Host, int(m.Port)) },
	}
	if !f.config.Policy.LocalTCP {
		d.denial = fmt.Sprintf("refused local port forward: originator %s port %d, target %s port %d", printable(m.Originator), m.From, host, m.Port)
	}
	return d, nil
}

func failureOf(host string, port uint32, err error) string {
	var unknown *net.DNSError
	if errors.As(err, &unknown) {
		return fmt.Sprintf("connect_to %s: unknown host (%s)", host, explain(err))
	}
	return fmt.Sprintf("connect_to %s port %d: failed.", host, port)
}

// toSocket reads a direct-streamlocal request (OpenSSH PROTOCOL, section 2.4). A
// refused one is, with sshd, one that failed.
func (f *Forwarder) toSocket(data []byte) (destination, error) {
	var m struct {
		Path, Originator string
		From             uint32
	}
	if err := ssh.Unmarshal(data, &m); err != nil {
		return destination{}, err
	}
	path := printable(m.Path)
	d := destination{
		event:   event{direction: "local", kind: "unix", target: path},
		reason:  ssh.ConnectionFailed,
		allowed: f.config.Policy.OpensSocket(m.Path),
		denial:  fmt.Sprintf("Received request to connect to path %s, but the request was denied.", path),
		failure: func(err error) string { return fmt.Sprintf("connect to %s failed: %s", path, explain(err)) },
		dial:    func(ctx context.Context) (net.Conn, error) { return dialSocket(ctx, f.config.Root, m.Path) },
	}
	if !f.config.Policy.LocalSocket {
		d.denial = fmt.Sprintf("refused streamlocal port forward: originator %s port %d, target %s", printable(m.Originator), m.From, path)
	}
	return d, nil
}

// dialTCP connects. That localhost is this machine needs no hosts(5) file, which
// an image made from scratch does not have.
func (f *Forwarder) dialTCP(ctx context.Context, host string, port int) (net.Conn, error) {
	if host == "" {
		return nil, &net.DNSError{Err: "no host", IsNotFound: true} // not this machine, as for the library
	}
	dialer := net.Dialer{}
	conn, err := dialer.DialContext(ctx, f.network("tcp"), net.JoinHostPort(host, strconv.Itoa(port)))
	var unknown *net.DNSError
	if host != "localhost" || !errors.As(err, &unknown) {
		return conn, err
	}
	for _, ip := range f.ofFamily(net.IPv6loopback, net.IPv4(127, 0, 0, 1)) {
		if conn, err = dialer.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), strconv.Itoa(port))); err == nil {
			break
		}
	}
	return conn, err
}

// explain is why a connection could not be made, in the words of strerror(3) and
// gai_strerror(3), which the client shows to its user.
func explain(err error) string {
	var unknown *net.DNSError
	var number syscall.Errno
	switch {
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return "Name or service not known"
	case errors.As(err, &unknown):
		return "Temporary failure in name resolution"
	case errors.As(err, &number):
		text := number.Error()
		return strings.ToUpper(text[:1]) + text[1:]
	case errors.Is(err, context.DeadlineExceeded):
		return "Connection timed out"
	}
	return refusal
}

func join(host string, port uint32) string { return net.JoinHostPort(host, strconv.Itoa(int(port))) }

// printable escapes what a client must not write into a log, and shortens what
// is longer than any name.
func printable(text string) string {
	return wording.Escape(fmt.Sprintf("%.256s", text))
}
