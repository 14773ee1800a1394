package sshd

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"buildenv/sshd/sshdconfig"
)

func TestManyTunnelsLeaveNothing(t *testing.T) {
	r := startForwarding(t, true, nil)
	l := answerer(t, "tcp", "127.0.0.1:0")
	run := func(tunnels, size int) {
		entry := filepath.Join(t.TempDir(), "entry.sock")
		c := r.forward(t, "-L", entry+":"+l.Addr().String(), "-R", "/remote.sock:"+l.Addr().String(), "-R", "0:"+l.Addr().String())
		port := c.said(t, allocated)
		waitForSocket(t, entry)
		waitForSocket(t, r.here("/remote.sock"))
		var all sync.WaitGroup
		for i := range tunnels {
			way := [][2]string{{"unix", entry}, {"unix", r.here("/remote.sock")}, {"tcp", "127.0.0.1:" + port}}[i%3]
			all.Go(func() {
				if err := exchange(way[0], way[1], noise(size)); err != nil {
					t.Errorf("%s: %v", way, err)
				}
			})
		}
		all.Wait()
		for _, way := range [][2]string{{"unix", entry}, {"unix", r.here("/remote.sock")}} { // killed in its middle
			if conn, err := net.Dial(way[0], way[1]); err != nil {
				t.Error(err)
			} else {
				defer conn.Close()
				io.WriteString(conn, "half a")
			}
		}
		c.end()
		eventually(t, "an idle server", func() bool { return len(r.open()) == 0 })
	}
	run(3, 10)
	before := takeStock(t)
	run(200, 100<<10)
	var now stock
	eventually(t, "everything back to where it was", func() bool { now = takeStock(t); return now.within(before) })
	if left, err := os.ReadDir(r.config.settings.ChrootDirectory); err != nil || len(left) > 0 {
		t.Errorf("left in the image root: %v, %v", left, err)
	}
}

func TestAuditOfForwarding(t *testing.T) {
	audit := &journal{}
	r := startForwarding(t, false, func(_ *rig, c *Config) { c.Audit = NewAudit(audit) })
	l := answerer(t, "tcp", "127.0.0.1:0")
	entry, remote := r.file("entry.sock"), r.file("remote.sock")
	r.forward(t, "-L", entry+":"+l.Addr().String(), "-R", remote+":"+l.Addr().String())
	waitForSocket(t, remote)
	waitForSocket(t, entry)
	for _, way := range []string{entry, remote} {
		if err := exchange("unix", way, noise(1000)); err != nil {
			t.Error(err)
		}
	}
	ends := func() int { return strings.Count(audit.String(), `"event":"forward.closed"`) }
	eventually(t, "both ends", func() bool { return ends() == 2 })
	local := map[string]any{"direction": "local", "kind": "tcp", "target": l.Addr().String()}
	others := map[string]any{"direction": "remote", "kind": "unix", "bind": remote}
	for _, want := range []map[string]any{local, others} {
		for event, more := range map[string]map[string]any{
			"forward.opened": {},
			"forward.closed": {"in": 1000., "out": 2000., "reason": "both sides have finished"},
		} {
			if want["direction"] == "remote" && event == "forward.closed" {
				more["in"], more["out"] = 2000., 1000.
			}
			maps.Copy(more, want)
			more["event"], more["connection"] = event, 1.
			if !recorded(t, audit, more) {
				t.Errorf("not in the audit: %v", more)
			}
		}
	}
	others["event"] = "forward.listening"
	if !recorded(t, audit, others) {
		t.Errorf("not in the audit: %v in\n%s", others, audit)
	}
}

// recorded finds an event that has at least some fields.
func recorded(t *testing.T, audit *journal, want map[string]any) bool {
	t.Helper()
	for l := range strings.Lines(audit.String()) {
		var event map[string]any
		if err := json.Unmarshal([]byte(l), &event); err != nil {
			t.Fatal(err)
		}
		found := true
		for key, value := range want {
			found = found && event[key] == value
		}
		if found {
			return true
		}
	}
	return false
}

// Tunnels time out as channels of their type do, whoever has opened them.
func TestTunnelsTimeOut(t *testing.T) {
	socket, _ := startAgent(t)
	for kind, way := range map[string]func(t *testing.T, r *rig) string{
		"direct-tcpip": func(t *testing.T, r *rig) string {
			l := answerer(t, "tcp", "127.0.0.1:0")
			r.forward(t, "-L", r.file("entry.sock")+":"+l.Addr().String())
			return r.file("entry.sock")
		},
		"forwarded-streamlocal@openssh.com": func(t *testing.T, r *rig) string {
			l := answerer(t, "tcp", "127.0.0.1:0")
			r.forward(t, "-R", r.file("entry.sock")+":"+l.Addr().String())
			return r.file("entry.sock")
		},
		"agent-connection": func(t *testing.T, r *rig) string {
			cmd := r.withAgent(t, socket, "echo $SSH_AUTH_SOCK; cat")
			stdin, err1 := cmd.StdinPipe()
			stdout, err2 := cmd.StdoutPipe()
			if err := errors.Join(err1, err2, cmd.Start()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { stdin.Close(); cmd.Wait() })
			path, err := bufio.NewReader(stdout).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(path)
		},
	} {
		t.Run(kind, func(t *testing.T) {
			r := startForwarding(t, false, func(r *rig, _ *Config) {
				r.config.settings.ChannelTimeouts = []sshdconfig.ChannelTimeout{{Pattern: kind, Idle: 200 * time.Millisecond}}
			})
			entry := way(t, r)
			waitForSocket(t, entry)
			conn, err := net.Dial("unix", entry)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.ReadAll(conn); err != nil {
				t.Errorf("an idle tunnel is not closed: %v", err)
			}
		})
	}
}
