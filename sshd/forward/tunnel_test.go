package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// A peer that takes nothing holds up its own tunnel and no other.
func TestSlowPeer(t *testing.T) {
	client, _ := dial(t, Config{Policy: open})
	slow := openTCP(t, client, listen(t, func(c *net.TCPConn) { <-t.Context().Done(); c.Close() }))
	stuck := make(chan struct{})
	go func() {
		defer close(stuck)
		io.Copy(slow, bytes.NewReader(make([]byte, 64<<20))) // more than all buffers hold
	}()
	other := openTCP(t, client, listen(t, echo))
	soon(t, "another tunnel", func() {
		io.WriteString(other, "hello")
		other.CloseWrite()
		if heard, err := io.ReadAll(other); string(heard) != "hello" {
			t.Errorf("heard %q, %v", heard, err)
		}
	})
	client.Close()
	soon(t, "the stuck tunnel", func() { <-stuck })
}

// A client that goes on talking to somebody who is gone is rid of it all the same.
func TestPeerResets(t *testing.T) {
	client, _ := dial(t, Config{Policy: open})
	ch := openTCP(t, client, listen(t, func(c *net.TCPConn) {
		io.CopyN(io.Discard, c, 1)
		c.SetLinger(0)
		c.Close()
	}))
	soon(t, "writing to who is gone", func() {
		for block := make([]byte, 64<<10); ; {
			if _, err := ch.Write(block); err != nil {
				return
			}
		}
	})
}

// A client that closes a channel is not waited for, nor is who still talks to it.
func TestClientCloses(t *testing.T) {
	client, _ := dial(t, Config{Policy: open})
	ended := make(chan error, 1)
	ch := openTCP(t, client, listen(t, func(c *net.TCPConn) {
		defer c.Close()
		for {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				ended <- err
				return
			}
		}
	}))
	io.CopyN(io.Discard, ch, 1<<20)
	ch.Close()
	soon(t, "the peer's end", func() { <-ended })
}

func TestStopClosesTunnels(t *testing.T) {
	client, f := dial(t, Config{Policy: open})
	ch := openTCP(t, client, listen(t, echo))
	soon(t, "Stop", f.Stop)
	soon(t, "the tunnel", func() { io.Copy(io.Discard, ch) })
	if _, _, err := client.OpenChannel(LocalTCP, ssh.Marshal(tcpRequest{"127.0.0.1", 1, "", 1})); err == nil {
		t.Error("opened after Stop")
	}
	if ok, _, err := client.SendRequest(listenTCPRequest, true, ssh.Marshal(listenRequest{"127.0.0.1", 0})); ok || err != nil {
		t.Errorf("listens after Stop: %v, %v", ok, err)
	}
	if _, err := f.Agent(); err == nil {
		t.Error("an agent after Stop")
	}
	f.Stop()
}

// mute is a client that answers no request to open a channel.
type mute struct{ asked chan struct{} }

func (m mute) OpenChannel(string, []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	m.asked <- struct{}{}
	select {}
}

func TestMuteClient(t *testing.T) {
	root := agentRoot(t, "tmp")
	m := mute{make(chan struct{})}
	f := newForwarder(t, Config{Root: root, Policy: open}, m)
	socket, err := f.Agent()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", root+socket)
	if err != nil {
		t.Fatal(err)
	}
	<-m.asked
	soon(t, "the end", f.Close)
	if _, err := io.ReadAll(conn); err != nil {
		t.Error(err)
	}
}

func TestHostileRequests(t *testing.T) {
	client, f := dial(t, Config{Policy: open})
	for name, payload := range map[string][]byte{
		"empty": nil, "cut": {0, 0, 0, 9, 'a'}, "huge string": {0xff, 0xff, 0xff, 0xff},
		"port":      ssh.Marshal(tcpRequest{"127.0.0.1", 1 << 16, "", 1}),
		"nowhere":   ssh.Marshal(tcpRequest{"", 80, "", 1}),
		"long name": ssh.Marshal(tcpRequest{strings.Repeat("a", 1<<15), 80, "", 1}),
	} {
		for _, kind := range []string{LocalTCP, LocalSocket} {
			if _, _, err := client.OpenChannel(kind, payload); err == nil {
				t.Errorf("%s opened: %s", kind, name)
			}
		}
	}
	for name, payload := range map[string][]byte{
		"empty": nil, "cut": {0, 0, 0, 9, 'a'},
		"port":        ssh.Marshal(listenRequest{"127.0.0.1", 1 << 16}),
		"long name":   ssh.Marshal(listenRequest{strings.Repeat("a", 1<<15), 0}),
		"NUL in path": ssh.Marshal(struct{ Path string }{"a\x00b"}),
		"no path":     ssh.Marshal(struct{ Path string }{}),
	} {
		for _, kind := range Requests {
			if ok, _, err := client.SendRequest(kind, true, payload); ok || err != nil {
				t.Errorf("%s granted: %s, %v", kind, name, err)
			}
		}
	}
	client.SendRequest(listenTCPRequest, false, ssh.Marshal(listenRequest{"127.0.0.1", 0})) // nobody would know the port
	client.SendRequest("a reply, to be after it", true, nil)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.bounds) > 0 {
		t.Errorf("%d listeners", len(f.bounds))
	}
}

func TestTooManyListeners(t *testing.T) {
	client, _ := dial(t, Config{Policy: open})
	for i := range maxBounds + 1 {
		ok, _, err := client.SendRequest(listenTCPRequest, true, ssh.Marshal(listenRequest{"127.0.0.1", 0}))
		if want := i < maxBounds; ok != want || err != nil {
			t.Fatalf("listener %d: %v, %v", i, ok, err)
		}
	}
}

// A queue that is full is waited for, as the kernel does for TCP, but not for ever.
func TestFullQueue(t *testing.T) {
	name := filepath.Join(t.TempDir(), "socket")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := dialSocket(t.Context(), "", name)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := net.Dial("unix", name); !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("the queue is not full: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dialSocket(ctx, "", name); err == nil {
		t.Error("connected, though nobody has accepted")
	}
	dialled := make(chan error, 1)
	go func() {
		c, err := dialSocket(t.Context(), "", name)
		if err == nil {
			c.Close()
		}
		dialled <- err
	}()
	accepted, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(accepted)
	soon(t, "the queue", func() { err = <-dialled })
	if err != nil {
		t.Error(err)
	}
}

// Only what the forwarder has made is removed.
func TestSocketReplaced(t *testing.T) {
	name := filepath.Join(t.TempDir(), "socket")
	l, remove, err := listenSocket("", name, 0o177, false)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(os.Rename(name, name+".old"), os.WriteFile(name, []byte("mine"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(name); string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestExplain(t *testing.T) {
	for want, err := range map[string]error{
		"Connection refused":                   &net.OpError{Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
		"Name or service not known":            &net.DNSError{IsNotFound: true},
		"Temporary failure in name resolution": &net.DNSError{IsTimeout: true},
		"Connection timed out":                 fmt.Errorf("dial: %w", context.DeadlineExceeded),
		"open failed":                          errors.New("something else"),
	} {
		if got := explain(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

func FuzzRequests(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(ssh.Marshal(tcpRequest{"localhost", 80, "::1", 1024}))
	f.Add(ssh.Marshal(tcpRequest{"%s%n%!\x1b[2J\n", 80, "\xff", 1 << 31}))
	f.Add(ssh.Marshal(struct {
		Path, Originator string
		From             uint32
	}{"/run/a.sock", "", 0}))
	f.Fuzz(func(t *testing.T, data []byte) {
		forwarder := &Forwarder{config: Config{From: "192.0.2.1 port 1"}}
		for _, parse := range []func([]byte) (destination, error){forwarder.toTCP, forwarder.toSocket} {
			d, err := parse(data)
			if err != nil {
				continue
			}
			if d.allowed {
				t.Error("allowed by the zero Policy")
			}
			said := d.denial + d.failure(syscall.ENOENT) + d.failure(&net.DNSError{}) + d.target + d.originator
			if strings.ContainsFunc(said, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("a client writes %q into the log", said)
			}
		}
	})
}
