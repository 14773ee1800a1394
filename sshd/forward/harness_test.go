package forward

import (
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// patience bounds every wait of a test that would otherwise hang.
const patience = 20 * time.Second

// newForwarder makes a Forwarder that is closed with the test.
func newForwarder(t testing.TB, c Config, client Client) *Forwarder {
	t.Helper()
	c.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	c.Audit = slog.New(slog.DiscardHandler)
	f := New(c, client)
	t.Cleanup(f.Close)
	return f
}

// dial connects a client with a new Forwarder over TCP. Authentication is not the
// subject here.
func dial(t testing.TB, c Config) (*ssh.Client, *Forwarder) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.Ciphers = []string{ssh.CipherAES128GCM} // the others are slow under the race detector
	config.AddHostKey(signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	made := make(chan *Forwarder, 1)
	served := make(chan struct{})
	go func() {
		defer close(served)
		serveOne(t, listener, config, c, made)
	}()
	client, err := ssh.Dial("tcp", listener.Addr().String(), &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	f := <-made
	t.Cleanup(func() {
		client.Close()
		soon(t, "the end of the forwarder", func() { f.Close(); <-served })
	})
	return client, f
}

// serveOne ends with the connection.
func serveOne(t testing.TB, listener net.Listener, config *ssh.ServerConfig, c Config, made chan<- *Forwarder) {
	raw, err := listener.Accept()
	if err != nil {
		return
	}
	conn, channels, requests, err := ssh.NewServerConn(raw, config)
	if err != nil {
		return
	}
	c.Log, c.Audit = slog.New(slog.NewTextHandler(t.Output(), nil)), slog.New(slog.DiscardHandler)
	f := New(c, conn)
	made <- f
	var all sync.WaitGroup
	all.Go(func() {
		for r := range requests {
			f.Answer(r)
		}
	})
	for ch := range channels {
		all.Go(func() { f.Open(ch) })
	}
	all.Wait()
}

// soon fails the test if f takes for ever.
func soon(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: hangs", what)
	}
}

// listen makes a server of somebody else's.
func listen(t testing.TB, serve func(*net.TCPConn)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c.(*net.TCPConn))
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// echo sends everything back.
func echo(c *net.TCPConn) {
	defer c.Close()
	io.Copy(c, c)
}

type tcpRequest struct {
	Host       string
	Port       uint32
	Originator string
	From       uint32
}

type listenRequest struct {
	Host string
	Port uint32
}

// openTCP opens a channel to a port of this machine.
func openTCP(t testing.TB, c *ssh.Client, port int) ssh.Channel {
	t.Helper()
	ch, requests, err := c.OpenChannel(LocalTCP, ssh.Marshal(tcpRequest{"127.0.0.1", uint32(port), "192.0.2.1", 1}))
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	return ch
}
