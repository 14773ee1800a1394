package sshd

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/sshdconfig"
)

// The leak test's clients.
const (
	leakCycles    = 1000
	leakTogether  = 16
	leakHandshake = 4 << 10 // bytes until a session is under way, about
)

// errCut is what a client meets when it is killed.
var errCut = errors.New("killed")

// fragile is a client's connection that breaks after a number of bytes, of
// either direction.
type fragile struct {
	*net.TCPConn
	left atomic.Int64
}

func (f *fragile) Read(p []byte) (int, error)  { return f.spend(p, f.TCPConn.Read) }
func (f *fragile) Write(p []byte) (int, error) { return f.spend(p, f.TCPConn.Write) }

func (f *fragile) spend(p []byte, move func([]byte) (int, error)) (int, error) {
	n, err := move(p[:max(0, min(int64(len(p)), f.left.Load()))])
	if f.left.Add(-int64(n)) <= 0 {
		f.Close()
		return n, errCut
	}
	return n, err
}

// TestNothingLeaks: clients that are killed somewhere between their first byte
// and the middle of their work leave nothing behind.
func TestNothingLeaks(t *testing.T) {
	r := start(t, func(r *rig, c *Config) {
		r.config.server.MaxStartups = sshdconfig.MaxStartups{}
		r.config.settings.LogLevel = "QUIET"
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	})
	r.connect(t).Close()
	eventually(t, "an idle server", func() bool { return len(r.open()) == 0 })
	before := takeStock(t)
	cycles := make(chan int)
	var clients sync.WaitGroup
	var worked atomic.Int32
	for range leakTogether {
		clients.Go(func() {
			for i := range cycles {
				if r.liveAndDie(i) {
					worked.Add(1)
				}
			}
		})
	}
	for i := range leakCycles {
		cycles <- i
	}
	close(cycles)
	clients.Wait()
	var now stock
	settled := func() bool {
		now = takeStock(t)
		return now.within(before) && len(r.open()) == 0
	}
	eventually(t, "everything back to where it was", func() bool { return settled() })
	if n := worked.Load(); n < leakCycles/4 || n > leakCycles*3/4 {
		t.Errorf("%d of %d clients came to work: the others are not killed at random points", n, leakCycles)
	}
}

// liveAndDie is one client. Half of them die before their work begins.
func (r *rig) liveAndDie(i int) (worked bool) {
	raw, err := net.Dial("tcp", r.Addrs()[0].String())
	if err != nil {
		return false
	}
	c := &fragile{TCPConn: raw.(*net.TCPConn)}
	defer c.Close()
	if i%2 == 0 {
		c.left.Store(rand.Int64N(leakHandshake))
	} else {
		c.left.Store(leakHandshake + rand.Int64N(64<<10))
	}
	if i%3 == 0 {
		c.SetLinger(0) // dies with a reset
	}
	conn, channels, requests, err := ssh.NewClientConn(c, "", &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(r.key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		return false
	}
	client := ssh.NewClient(conn, channels, requests)
	defer client.Close()
	s, err := client.NewSession()
	if err == nil {
		work(s, i)
	}
	return err == nil
}

// work keeps a session busy until the connection breaks.
func work(s *ssh.Session, i int) {
	in, err := s.StdinPipe()
	if err != nil {
		return
	}
	if i%4 < 2 {
		s.RequestPty("xterm", 24, 80, nil)
	}
	switch i % 7 {
	case 0, 1, 2:
		err = s.Start("cat")
	case 3:
		err = s.Shell()
	case 4, 5:
		if err = s.RequestSubsystem("sftp"); err == nil {
			_, err = in.Write([]byte("\x00\x00\x00\x05\x01\x00\x00\x00\x03"))
		}
	case 6:
		s.Run("true")
		return // with the session over and the connection open
	}
	for err == nil {
		_, err = in.Write([]byte("\x00\x00\x00\x09\x10\x00\x00\x00\x01/\n.\n"))
	}
}

// stock is what a process has.
type stock struct{ goroutines, descriptors, terminals, children int }

func (s stock) within(before stock) bool {
	return s.goroutines <= before.goroutines && s.descriptors <= before.descriptors && s.terminals <= before.terminals && s.children <= before.children
}

func takeStock(t *testing.T) stock {
	t.Helper()
	s := stock{goroutines: runtime.NumGoroutine()}
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("needs /proc: %v", err)
	}
	s.descriptors = len(descriptors)
	for _, d := range descriptors {
		if name, _ := os.Readlink("/proc/self/fd/" + d.Name()); strings.HasSuffix(name, "/ptmx") {
			s.terminals++
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, p := range processes {
		text, _ := os.ReadFile(p) // it may have ended
		_, fields, _ := strings.Cut(string(text), ") ")
		var state string
		var parent int
		fmt.Sscan(fields, &state, &parent)
		if parent == os.Getpid() { // zombies too
			s.children++
		}
	}
	return s
}
