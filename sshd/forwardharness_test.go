package sshd

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// startForwarding runs a server that forwards everything, jailed in an empty root
// if jailed.
func startForwarding(t *testing.T, jailed bool, change func(*rig, *Config)) *rig {
	return start(t, func(r *rig, c *Config) {
		s := &r.config.settings
		s.AllowTCPForwarding, s.AllowStreamLocalForwarding, s.AllowAgentForwarding = "yes", "yes", true
		s.GatewayPorts, s.StreamLocalBindMask = "no", 0o177
		if jailed {
			s.ChrootDirectory = trusted(t)
		}
		if change != nil {
			change(r, c)
		}
	})
}

// here is a path of the user's as this machine has it.
func (r *rig) here(path string) string { return filepath.Join(r.config.settings.ChrootDirectory, path) }

// client is an ssh that forwards and runs no command.
type client struct {
	*exec.Cmd
	errors *journal
}

// forward starts one. It ends with the test, or with end.
func (r *rig) forward(t *testing.T, args ...string) *client {
	t.Helper()
	args = append([]string{"-N", "-o", "ExitOnForwardFailure=yes", "-o", "StreamLocalBindUnlink=yes"}, append(args, "root@127.0.0.1")...)
	c := &client{r.command(t, "ssh", args...), &journal{}}
	c.Stderr = io.MultiWriter(c.errors, t.Output())
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.end() })
	return c
}

func (c *client) end() {
	c.Process.Kill()
	c.Wait()
}

// said waits for what a client writes, and gives what the parenthesis matches.
func (c *client) said(t *testing.T, expression string) (match string) {
	t.Helper()
	want := regexp.MustCompile(expression)
	eventually(t, "the client's "+expression, func() bool {
		found := want.FindStringSubmatch(c.errors.String())
		if found != nil {
			match = found[len(found)-1]
		}
		return found != nil
	})
	return match
}

// answerer is a server that listens to the end, and answers only then: with what
// it has heard, twice.
func answerer(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				heard, _ := io.ReadAll(conn)
				conn.Write(heard)
				conn.Write(heard)
			}()
		}
	}()
	return l
}

// half is a connection of which one direction can be closed.
type half interface {
	net.Conn
	CloseWrite() error
}

// exchange says something to an answerer at the other end of a tunnel.
func exchange(network, address string, said []byte) error {
	conn, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(said); err != nil {
		return err
	}
	if err := conn.(half).CloseWrite(); err != nil {
		return err
	}
	heard, err := io.ReadAll(conn)
	if err == nil && !bytes.Equal(heard, slices.Concat(said, said)) {
		err = fmt.Errorf("said %d bytes, heard %d", len(said), len(heard))
	}
	return err
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// waitFor waits until there is a file. Who makes a socket may not listen yet.
func waitFor(t *testing.T, file string) {
	t.Helper()
	eventually(t, file, func() bool { _, err := os.Lstat(file); return err == nil })
}

// waitForSocket waits until somebody listens on a socket. The kernel has its path
// as it was given, inside a jail for one (proc_pid_net(5), unix).
func waitForSocket(t *testing.T, path string) {
	t.Helper()
	const accepts, flags, name = "00010000", 3, 7
	eventually(t, path, func() bool {
		table, err := os.ReadFile("/proc/net/unix")
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(table)) {
			if f := strings.Fields(l); len(f) > name && f[flags] == accepts && strings.HasSuffix(path, f[name]) {
				_, err := os.Lstat(path)
				return err == nil
			}
		}
		return false
	})
}

// names are the two kinds of user.
var names = map[bool]string{false: "free", true: "jailed"}
