package sshd

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"buildenv/sshd/sshdconfig"
)

func TestLoginGraceTime(t *testing.T) {
	r := start(t, func(r *rig, _ *Config) { r.config.server.LoginGraceTime = 300 * time.Millisecond })
	client := r.connect(t)
	silent, err := net.Dial("tcp", r.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	io.ReadAll(silent) // until the server closes it
	r.logs(t, "Timeout before authentication for 127.0.0.1 port ")
	if s, err := client.NewSession(); err != nil {
		t.Errorf("who is logged in stays: %v", err)
	} else {
		s.Close()
	}
}

func TestClientAlive(t *testing.T) {
	r := start(t, func(r *rig, _ *Config) {
		r.config.settings.ClientAliveInterval, r.config.settings.ClientAliveCountMax = 50*time.Millisecond, 2
	})
	alive := r.connect(t)
	raw, err := net.Dial("tcp", r.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(r.key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	silent, _, _, err := ssh.NewClientConn(raw, "", config) // nobody answers its requests
	if err != nil {
		t.Fatal(err)
	}
	silent.Wait()
	r.logs(t, "Timeout, client not responding from user root 127.0.0.1 port ")
	if _, _, err := alive.SendRequest("still-there", true, nil); err != nil {
		t.Errorf("a client that answers: %v", err)
	}
}

// A client that sends a byte now and then, for ever, does not stay for ever.
func TestLoginGraceTimeOfSlowClients(t *testing.T) {
	audit := &journal{}
	r := start(t, func(r *rig, c *Config) {
		r.config.server.LoginGraceTime = 500 * time.Millisecond
		c.Audit = NewAudit(audit)
	})
	for name, first := range map[string]string{"identification": "SSH-2.0-slow", "key exchange": "SSH-2.0-slow\r\n\x00\x00\x10\x00\x04\x14"} {
		slow, err := net.Dial("tcp", r.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		io.WriteString(slow, first)
		go func() {
			for {
				if _, err := slow.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond) // that is the attack
			}
		}()
		slow.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, slow); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: still connected", name)
		}
	}
	eventually(t, "the ends in the audit", func() bool { return strings.Count(audit.String(), `"reason":"LoginGraceTime"`) == 2 })
}

// blackHole passes a client's connection on until it is closed to both sides,
// which do not learn of it.
type blackHole struct {
	net.Listener
	closed chan struct{}
}

func newBlackHole(t *testing.T, to string) *blackHole {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &blackHole{l, make(chan struct{})}
	t.Cleanup(func() { l.Close() })
	go func() {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", to)
		if err != nil {
			client.Close()
			return
		}
		go h.pass(server, client)
		h.pass(client, server)
		<-t.Context().Done() // both stay open
		client.Close()
		server.Close()
	}()
	return h
}

func (h *blackHole) pass(to io.Writer, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-h.closed:
			return
		default:
		}
		if _, writeErr := to.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// TestClientAliveOfLostPeer: the peer is gone while a command writes to it, so
// that every write of ours waits for ever.
func TestClientAliveOfLostPeer(t *testing.T) {
	audit := &journal{}
	r := start(t, func(r *rig, c *Config) {
		r.config.settings.ClientAliveInterval, r.config.settings.ClientAliveCountMax = 100*time.Millisecond, 2
		c.Audit = NewAudit(audit)
	})
	for _, command := range []string{"sleep 1000", "yes"} {
		hole := newBlackHole(t, r.Addrs()[0].String())
		client, err := ssh.Dial("tcp", hole.Addr().String(), &ssh.ClientConfig{
			User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(r.key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		s, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RequestPty("xterm", 24, 80, nil); err != nil { // what it runs is hung up
			t.Fatal(err)
		}
		if err := s.Start(command); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a connection", func() bool { return len(r.open()) == 1 })
		close(hole.closed)
		eventually(t, "the end of the connection", func() bool { return len(r.open()) == 0 })
	}
	if n := strings.Count(audit.String(), `"reason":"client not responding"`); n != 2 {
		t.Errorf("audit: %s", audit)
	}
}

func TestUnusedConnectionTimeout(t *testing.T) {
	r := start(t, func(r *rig, _ *Config) { r.config.settings.UnusedConnectionTimeout = 300 * time.Millisecond })
	busy := r.connect(t)
	s, err := busy.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("sleep 1000"); err != nil {
		t.Fatal(err)
	}
	unused := r.connect(t)
	unused.Wait()
	r.logs(t, "terminating inactive connection from user root 127.0.0.1 port ")
	if _, _, err := busy.SendRequest("still-there", true, nil); err != nil {
		t.Errorf("a connection with a session: %v", err)
	}
	s.Close()
	busy.Wait() // now it is unused as well
}

func TestChannelTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		timeouts []sshdconfig.ChannelTimeout
		tty      bool
		command  string
		ends     bool
	}{
		"idle command":          {[]sshdconfig.ChannelTimeout{{Pattern: "session:command", Idle: 200 * time.Millisecond}}, false, "sleep 1000", true},
		"idle terminal":         {[]sshdconfig.ChannelTimeout{{Pattern: "session:*", Idle: 200 * time.Millisecond}}, true, "cat", true},
		"busy command":          {[]sshdconfig.ChannelTimeout{{Pattern: "session:*", Idle: 2 * time.Second}}, false, "for i in 1 2 3 4 5 6; do echo; sleep 0.5; done", false},
		"busy on other stream":  {[]sshdconfig.ChannelTimeout{{Pattern: "session:*", Idle: 2 * time.Second}}, false, "for i in 1 2 3 4 5 6; do echo >&2; sleep 0.5; done", false},
		"another type":          {[]sshdconfig.ChannelTimeout{{Pattern: "session:shell", Idle: 100 * time.Millisecond}, {Pattern: "direct-tcpip", Idle: time.Millisecond}}, false, "sleep 0.5", false},
		"the first one matches": {[]sshdconfig.ChannelTimeout{{Pattern: "session:*", Idle: 0}, {Pattern: "*", Idle: 100 * time.Millisecond}}, false, "sleep 0.5", false},
		"global":                {[]sshdconfig.ChannelTimeout{{Pattern: "global", Idle: 200 * time.Millisecond}}, false, "sleep 1000", true},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(r *rig, _ *Config) {
				r.config.settings.ChannelTimeouts = c.timeouts
				r.config.settings.LogLevel = "VERBOSE"
			})
			client := r.connect(t)
			s, err := client.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			if c.tty {
				if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.StdinPipe(); err != nil { // it stays open
				t.Fatal(err)
			}
			err = s.Run(c.command)
			if ended := strings.Contains(r.log.String(), "channel closed after"); ended != c.ends {
				t.Errorf("ended %v, want %v: %v", ended, c.ends, err)
			}
			if _, _, err := client.SendRequest("keepalive@openssh.com", true, nil); err != nil {
				t.Errorf("the connection after that: %v", err)
			}
		})
	}
}

func TestLimitOfChannelTimeouts(t *testing.T) {
	list := []sshdconfig.ChannelTimeout{{Pattern: "session:subsystem:*", Idle: 1}, {Pattern: "session:*", Idle: 2}, {Pattern: "global", Idle: 3}, {Pattern: "*-tcpip", Idle: 4}}
	for kind, want := range map[string]time.Duration{
		"session:subsystem:sftp": 1, "session:shell": 2, "direct-tcpip": 4, "forwarded-tcpip": 4, "session": 0, "agent-connection": 0, "global": 0,
	} {
		if got := limit(list, kind); got != want {
			t.Errorf("%s: %d, want %d", kind, got, want)
		}
	}
}

func TestQoS(t *testing.T) {
	r := start(t, func(r *rig, _ *Config) { r.config.settings.IPQoS = [2]int{0x10, 0x08} })
	for want, options := range map[int][]string{0x10: {"-tt"}, 0x08: {"-T"}} {
		cmd := r.command(t, "ssh", append(options, "root@127.0.0.1", "sleep 1000")...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		got := -1
		eventually(t, "the mark", func() bool {
			for _, c := range r.open() {
				raw, err := c.Conn.(*net.TCPConn).SyscallConn()
				if err == nil {
					raw.Control(func(fd uintptr) { got, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS) })
				}
			}
			return got == want
		})
		cmd.Process.Kill()
		cmd.Wait()
		eventually(t, "the end", func() bool { return len(r.open()) == 0 })
	}
}
