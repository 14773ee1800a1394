package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"

	"buildenv/internal/netx"
)

// Names of the requests that a Forwarder answers (RFC 4254, section 7.1; OpenSSH
// PROTOCOL, section 2.4).
const (
	listenTCPRequest    = "tcpip-forward"
	cancelTCPRequest    = "cancel-tcpip-forward"
	listenSocketRequest = "streamlocal-forward@openssh.com"
	cancelSocketRequest = "cancel-streamlocal-forward@openssh.com"
)

// Requests are the global requests that Answer knows.
var Requests = []string{listenTCPRequest, cancelTCPRequest, listenSocketRequest, cancelSocketRequest}

// maxHost is the longest name of a host (NI_MAXHOST).
const maxHost = 1024

// bound is something that listens for the client.
type bound struct {
	event
	host    string // as the client names it, together with port: it cancels by them
	port    int    // the real one, if the client left the choice to us
	path    string // of a socket that the client asked for
	sockets []net.Listener
	opening string                  // the type of channel that is opened for who connects
	payload func(c net.Conn) []byte // which goes with it
	remove  func() error            // removes its files
	failed  func(what string, err error)
	once    sync.Once
}

// close ends the listening. Tunnels stay.
func (b *bound) close() {
	b.once.Do(func() {
		for _, l := range b.sockets {
			l.Close()
		}
		if b.remove == nil {
			return
		}
		if err := b.remove(); err != nil {
			b.failed("remove socket", err)
		}
	})
}

// Answer replies to one of Requests. It replies before anybody can connect: the
// client must know about a port first.
func (f *Forwarder) Answer(r *ssh.Request) {
	defer f.contain(r.Type)
	switch r.Type {
	case listenTCPRequest, cancelTCPRequest:
		f.answerTCP(r)
	case listenSocketRequest, cancelSocketRequest:
		f.answerSocket(r)
	default:
		r.Reply(false, nil)
	}
}

func (f *Forwarder) answerTCP(r *ssh.Request) {
	var m struct {
		Host string
		Port uint32
	}
	if err := ssh.Unmarshal(r.Payload, &m); err != nil || m.Port > 0xFFFF || len(m.Host) > maxHost {
		r.Reply(false, nil)
		return
	}
	if r.Type == cancelTCPRequest {
		ok := f.drop(func(b *bound) bool { return b.kind == "tcp" && b.host == m.Host && b.port == int(m.Port) })
		r.Reply(ok, nil)
		return
	}
	e := event{direction: "remote", kind: "tcp", bind: join(printable(m.Host), m.Port)}
	if !f.config.Policy.Listens(m.Host, int(m.Port)) {
		f.config.Log.Info(fmt.Sprintf("Received request from %s to remote forward to host %s port %d, but the request was denied.",
			f.config.From, printable(m.Host), m.Port))
		f.deny(r, e, errors.New("not permitted"))
		return
	}
	if m.Port == 0 && !r.WantReply {
		f.deny(r, e, errors.New("nobody could know the port"))
		return
	}
	b, err := f.add(func() (*bound, error) { return f.bindTCP(e, m.Host, int(m.Port)) })
	if err != nil {
		f.config.Log.Info("cannot listen for the client", e.attrs("from", f.config.From, "error", err)...)
		f.deny(r, e, err)
		return
	}
	var chosen []byte
	if m.Port == 0 {
		chosen = ssh.Marshal(struct{ Port uint32 }{uint32(b.port)})
	}
	f.grant(r, b, chosen)
}

func (f *Forwarder) bindTCP(e event, host string, port int) (*bound, error) {
	sockets, port, err := f.listenTCP(host, port)
	if err != nil {
		return nil, err
	}
	e.bind = join(printable(host), uint32(port))
	return &bound{event: e, host: host, port: port, sockets: sockets, opening: remoteTCP, payload: func(c net.Conn) []byte {
		from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
		return ssh.Marshal(struct {
			Host       string
			Port       uint32
			Originator string
			From       uint32
		}{host, uint32(port), from.Addr().Unmap().String(), uint32(from.Port())})
	}}, nil
}

func (f *Forwarder) answerSocket(r *ssh.Request) {
	var m struct{ Path string }
	if err := ssh.Unmarshal(r.Payload, &m); err != nil {
		r.Reply(false, nil)
		return
	}
	if r.Type == cancelSocketRequest {
		ok := f.drop(func(b *bound) bool { return b.kind == "unix" && b.path == m.Path })
		r.Reply(ok, nil)
		return
	}
	e := event{direction: "remote", kind: "unix", bind: printable(m.Path)}
	if !f.config.Policy.ListensOnSocket() {
		f.config.Log.Info(fmt.Sprintf("Received request from %s to remote forward to path %q, but the request was denied.",
			f.config.From, printable(m.Path)))
		f.deny(r, e, errors.New("not permitted"))
		return
	}
	b, err := f.add(func() (*bound, error) { return f.bindSocket(e, m.Path) })
	if err != nil {
		f.config.Log.Info("cannot listen for the client", e.attrs("from", f.config.From, "error", err)...)
		f.deny(r, e, err)
		return
	}
	f.grant(r, b, nil)
}

func (f *Forwarder) bindSocket(e event, path string) (*bound, error) {
	l, remove, err := listenSocket(f.config.Root, path, f.config.SocketMask, f.config.SocketUnlink)
	if err != nil {
		return nil, err
	}
	payload := ssh.Marshal(struct{ Path, Reserved string }{path, ""})
	return &bound{event: e, path: path, sockets: []net.Listener{l}, opening: remoteSocket, remove: remove,
		failed: f.failed, payload: func(net.Conn) []byte { return payload }}, nil
}

func (f *Forwarder) deny(r *ssh.Request, e event, why error) {
	f.refused(e, why.Error())
	r.Reply(false, nil)
}

// grant replies, then lets others in.
func (f *Forwarder) grant(r *ssh.Request, b *bound, payload []byte) {
	r.Reply(true, payload)
	f.config.Audit.Info("forward.listening", b.attrs()...)
	f.serve(b)
}

func (f *Forwarder) failed(what string, err error) {
	f.config.Log.Warn(what, "from", f.config.From, "error", err)
}

// serve accepts until the bound is closed.
func (f *Forwarder) serve(b *bound) {
	for _, l := range b.sockets {
		go func() {
			defer f.work.Done()
			defer f.contain("listener")
			netx.Accept(l, f.ctx.Done(), func(conn net.Conn) { f.welcome(b, conn) }, func(err error) { f.failed("accept for the client", err) })
		}()
	}
}

// welcome leads somebody who has connected to the client, unless there are too
// many of them.
func (f *Forwarder) welcome(b *bound, conn net.Conn) {
	e := b.event
	if e.kind == "tcp" {
		e.originator = conn.RemoteAddr().String()
	}
	if err := f.enter(); err != nil {
		conn.Close()
		f.config.Log.Info("connection to the client refused", e.attrs("from", f.config.From, "reason", err)...)
		f.refused(e, err.Error())
		return
	}
	go func() {
		defer f.leave()
		defer f.contain(b.opening)
		channel, requests, err := f.openChannel(b.opening, b.payload(conn))
		if err != nil {
			conn.Close()
			f.config.Log.Info("the client opens no channel", e.attrs("from", f.config.From, "error", err)...)
			f.refused(e, err.Error())
			return
		}
		f.carry(e, channel, requests, conn.(socket))
	}()
}

// opened is the client's answer to a channel.
type opened struct {
	channel  ssh.Channel
	requests <-chan *ssh.Request
	err      error
}

// openChannel asks the client for a channel. The library waits for the answer,
// which need not come.
func (f *Forwarder) openChannel(kind string, payload []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	answer := make(chan opened, 1)
	go func() { // ends with the answer or with the connection
		defer f.contain(kind)
		channel, requests, err := f.client.OpenChannel(kind, payload)
		answer <- opened{channel, requests, err}
	}()
	select {
	case o := <-answer:
		return o.channel, o.requests, o.err
	case <-f.ctx.Done():
		go refuse(answer) // likewise
		return nil, nil, context.Cause(f.ctx)
	}
}

// refuse closes a channel that is opened too late.
func refuse(answer <-chan opened) {
	if o := <-answer; o.err == nil {
		o.channel.Close()
		ssh.DiscardRequests(o.requests)
	}
}
