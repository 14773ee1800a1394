package sshd

import (
	"bytes"
	"crypto/rand"
	"net"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRekey moves data both ways at once while one side, then the other, asks
// for new keys again and again; every byte must arrive.
func TestRekey(t *testing.T) {
	const size = 50 << 20
	data := make([]byte, size)
	rand.Read(data)
	for name, c := range map[string]struct {
		server  uint64
		client  []string
		rekeyed int // times, at least
	}{
		"client":         {0, []string{"-o", "RekeyLimit=1M"}, 20},
		"server":         {4 << 20, nil, 10},
		"both":           {2 << 20, []string{"-o", "RekeyLimit=1M"}, 20},
		"other ciphers":  {4 << 20, []string{"-c", "aes256-ctr", "-m", "hmac-sha2-256-etm@openssh.com"}, 10},
		"old MACs":       {4 << 20, []string{"-c", "aes256-ctr", "-m", "hmac-sha2-256"}, 10},
		"nobody asks it": {0, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(r *rig, _ *Config) { r.config.settings.RekeyLimit = c.server })
			cmd := r.command(t, "ssh", append(append([]string{"-v"}, c.client...), "root@127.0.0.1", "cat")...)
			got, debug := echo(t, cmd, data)
			if !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d, or other ones", len(got), size)
			}
			n := strings.Count(debug, "SSH2_MSG_NEWKEYS received") - 1
			if n < c.rekeyed || c.rekeyed == 0 && n > 0 {
				t.Errorf("%d times new keys, want %d", n, c.rekeyed)
			}
			t.Logf("%d times new keys", n)
		})
	}
}

func echo(t *testing.T, cmd *exec.Cmd, data []byte) (got []byte, debug string) {
	t.Helper()
	cmd.Stdin = bytes.NewReader(data)
	out, errOut, status := run(t, cmd)
	if status != 0 {
		t.Errorf("status %d, %s", status, lastLine(errOut))
	}
	return []byte(out), errOut
}

// TestTCPKeepAlive: whether the system probes for a peer that is gone.
func TestTCPKeepAlive(t *testing.T) {
	for _, want := range []bool{true, false} {
		r := start(t, func(r *rig, _ *Config) { r.config.server.TCPKeepAlive = want })
		client := r.connect(t)
		open := r.open()
		if len(open) != 1 {
			t.Fatalf("%d connections", len(open))
		}
		if got := keepAlive(t, open[0].Conn.(*net.TCPConn)); got != want {
			t.Errorf("TCPKeepAlive %v: SO_KEEPALIVE is %v", want, got)
		}
		client.Close()
	}
}

func keepAlive(t *testing.T, c *net.TCPConn) bool {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	value := 0
	if err := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return value != 0
}
