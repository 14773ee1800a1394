package sshd

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/sshdconfig"
)

// A flood must neither grow the server nor hold up other channels of the connection.
const (
	floodSize   = 20000
	floodMemory = 4 << 20 // bytes that may be left, caches and the test's own
)

// inUse is what lives on the heap.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestFloodsOfRequests(t *testing.T) {
	text := strings.Repeat("x", 1000)
	for name, send := range map[string]func(*ssh.Client, ssh.Channel, int){
		"global": func(c *ssh.Client, _ ssh.Channel, i int) {
			c.SendRequest(fmt.Sprint("nonsense-", i), false, []byte(text))
		},
		"env": func(_ *ssh.Client, ch ssh.Channel, i int) {
			ch.SendRequest("env", false, ssh.Marshal(struct{ Name, Value string }{fmt.Sprint("LC_", i), text}))
		},
		"window-change": func(_ *ssh.Client, ch ssh.Channel, i int) {
			ch.SendRequest("window-change", false, ssh.Marshal(struct{ Columns, Rows, Width, Height uint32 }{80, uint32(i), 0, 0}))
		},
		"pty-req": func(_ *ssh.Client, ch ssh.Channel, i int) {
			ch.SendRequest("pty-req", false, ssh.Marshal(struct {
				Term                         string
				Columns, Rows, Width, Height uint32
				Modes                        string
			}{text, 80, 24, 0, 0, "\x00"}))
		},
		"signal": func(_ *ssh.Client, ch ssh.Channel, i int) {
			ch.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{text}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(r *rig, _ *Config) { r.config.settings.AcceptEnv = []string{"*"} })
			client := r.connect(t)
			ch, requests, err := client.OpenChannel("session", nil)
			if err != nil {
				t.Fatal(err)
			}
			go ssh.DiscardRequests(requests)
			before := inUse()
			for i := range floodSize {
				send(client, ch, i)
				if i%(floodSize/4) == 0 {
					if out, err := output(client, "echo alive"); out != "alive\n" {
						t.Fatalf("another session during the flood: %q, %v", out, err)
					}
				}
			}
			if out, err := output(client, "echo alive"); out != "alive\n" {
				t.Fatalf("another session after the flood: %q, %v", out, err)
			}
			if grown := inUse() - before; grown > floodMemory {
				t.Errorf("the flood left %d bytes behind", grown)
			}
		})
	}
}

func TestFloodOfChannels(t *testing.T) {
	r := start(t, func(r *rig, _ *Config) { r.config.settings.LogLevel = "QUIET" })
	client := r.connect(t)
	before := inUse()
	for _, kind := range []string{"session", "nonsense"} {
		for range 5000 {
			ch, requests, err := client.OpenChannel(kind, nil)
			if err == nil { // it is closed and another one opened at once
				go ssh.DiscardRequests(requests)
				ch.Close()
			}
		}
	}
	if out, err := output(client, "echo alive"); out != "alive\n" {
		t.Fatalf("a session after the flood: %q, %v", out, err)
	}
	if grown := inUse() - before; grown > floodMemory {
		t.Errorf("the flood left %d bytes behind", grown)
	}
}

func TestTooManyChannels(t *testing.T) {
	r := start(t, func(r *rig, _ *Config) {
		r.config.settings.MaxSessions = 2 * maxChannels
		r.config.settings.LogLevel = "QUIET"
	})
	client := r.connect(t)
	var refused *ssh.OpenChannelError
	for i := range maxChannels + 1 {
		_, requests, err := client.OpenChannel("session", nil)
		if err == nil {
			go ssh.DiscardRequests(requests)
			continue
		}
		if e, ok := err.(*ssh.OpenChannelError); !ok || e.Reason != ssh.ResourceShortage || i < maxChannels {
			t.Fatalf("channel %d: %v", i, err)
		} else {
			refused = e
		}
	}
	if refused == nil {
		t.Error("there is no bound")
	}
}

// deaf stops reading when it is told to.
type deaf struct {
	net.Conn
	mu sync.Mutex
}

func (d *deaf) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	d.mu.Lock()
	defer d.mu.Unlock()
	return n, err
}

// A client that asks for channels on and on and does not take the answers: they
// cannot be sent, and the goroutines that would send them must not pile up. A
// pipe holds a known number of answers, a thousand at most.
func TestFloodOfChannelsWithoutReading(t *testing.T) {
	audit := &journal{}
	r := start(t, func(r *rig, c *Config) {
		r.config.settings.LogLevel = "ERROR"
		c.Audit = NewAudit(audit)
	})
	theirs, ours := pipePair(t)
	go r.ServeConn(theirs)
	conn := &deaf{Conn: ours}
	client, channels, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(r.key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		t.Fatal(err)
	}
	go ssh.NewClient(client, channels, requests).Wait()
	conn.mu.Lock()
	for range 4 * maxChannels {
		go client.OpenChannel("session", nil) // ends with the connection
	}
	eventually(t, "the end of the connection", func() bool { return len(r.open()) == 0 })
	conn.Close()
	conn.mu.Unlock()
	eventually(t, "the end in the audit", func() bool { return strings.Contains(audit.String(), `"reason":"`+endedByFlood+`"`) })
	if out, err := output(r.connect(t), "echo alive"); out != "alive\n" {
		t.Errorf("another client: %q, %v", out, err)
	}
}

// explosive is a configuration that panics for one user.
type explosive struct{ *fixed }

func (e explosive) For(c sshdconfig.Connection) (sshdconfig.Settings, error) {
	if c.User == "bomb" {
		panic("injected")
	}
	return e.fixed.For(c)
}

// TestPanicsAreContained in each kind of goroutine that a connection has.
func TestPanicsAreContained(t *testing.T) {
	audit := &journal{}
	r := start(t, func(r *rig, c *Config) {
		c.Settings = explosive{r.config}
		c.Audit = NewAudit(audit)
		c.Builtin = func(_ context.Context, command string, _ io.Reader, _, _ io.Writer) (bool, int) {
			if command == "bomb" {
				panic("injected")
			}
			return false, 0
		}
	})
	client := r.connect(t)
	if _, err := output(client, "bomb"); err == nil {
		t.Error("a session that panics ends well")
	}
	if out, err := output(client, "echo alive"); out != "alive\n" {
		t.Errorf("another session of the connection: %q, %v", out, err)
	}
	if c, err := r.dial("bomb", ssh.PublicKeys(r.key)); err == nil {
		c.Close()
		t.Error("authentication that panics lets a client in")
	}
	for name, explode := range map[string]func(*connection){
		"request": func(c *connection) {
			c.answer(func(*ssh.ServerConn, []byte) (bool, []byte) { panic("injected") })(nil, nil, &ssh.Request{})
		},
		"channel": func(c *connection) {
			conn, _ := c.established()
			c.handler(func(*ssh.ServerConn, ssh.NewChannel) { panic("injected") })(nil, conn, nil, nil)
		},
	} {
		victim := r.connect(t)
		output(victim, "true")
		for _, c := range r.open() {
			if c.local.String() == victim.RemoteAddr().String() && c.remote.String() == victim.LocalAddr().String() {
				explode(c)
			}
		}
		if err := victim.Wait(); err == nil {
			t.Errorf("%s: the connection lives on", name)
		}
	}
	if out, err := output(client, "echo alive"); out != "alive\n" {
		t.Errorf("another connection: %q, %v", out, err)
	}
	eventually(t, "the ends in the audit", func() bool { return strings.Count(audit.String(), endedByPanic) == 3 })
	if n := strings.Count(r.log.String(), "panic contained"); n != 4 {
		t.Errorf("%d panics in the log, want 4", n)
	}
}
