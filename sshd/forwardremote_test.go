package sshd

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allocated is what OpenSSH's client says about a port that the server has chosen.
const allocated = `Allocated port (\d+) for remote forward to`

func TestRemoteForwarding(t *testing.T) {
	r := startForwarding(t, false, nil)
	l, other := answerer(t, "tcp", "127.0.0.1:0"), answerer(t, "tcp", "127.0.0.1:0")
	c := r.forward(t, "-R", "0:"+l.Addr().String(), "-R", "0:"+other.Addr().String())
	first := c.said(t, allocated)
	second := c.said(t, allocated+`[\s\S]*`+allocated)
	if first == second {
		t.Errorf("port %s twice", first)
	}
	for _, port := range []string{first, second} {
		for _, size := range []int{0, 1, 3 << 20} {
			if err := exchange("tcp", "127.0.0.1:"+port, noise(size)); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
	}
	c.end()
	eventually(t, "the end of the listeners", func() bool {
		return len(listening(t, first))+len(listening(t, second)) == 0
	})
}

func TestCancelRemoteForwarding(t *testing.T) {
	audit := &journal{}
	r := startForwarding(t, false, func(_ *rig, c *Config) { c.Audit = NewAudit(audit) })
	l := answerer(t, "tcp", "127.0.0.1:0")
	master := filepath.Join(t.TempDir(), "master.sock")
	r.forward(t, "-M", "-S", master)
	waitFor(t, master)
	control := func(args ...string) string {
		out, errOut, status := run(t, r.command(t, "ssh", append(append([]string{"-S", master, "-O"}, args...), "root@127.0.0.1")...))
		if status != 0 {
			t.Fatalf("ssh -O %q: status %d, %s", args, status, errOut)
		}
		return strings.TrimSpace(out)
	}
	chosen := control("forward", "-R", "0:"+l.Addr().String())
	fixed := fmt.Sprint(freePort(t))
	control("forward", "-R", fixed+":"+l.Addr().String())
	socket := filepath.Join(t.TempDir(), "remote.sock")
	control("forward", "-R", socket+":"+l.Addr().String())
	open, err := net.Dial("tcp", "127.0.0.1:"+fixed)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	eventually(t, "a tunnel", func() bool { return strings.Contains(audit.String(), "forward.opened") })
	for port, asked := range map[string]string{chosen: "0", fixed: fixed} {
		if err := exchange("tcp", "127.0.0.1:"+port, noise(1000)); err != nil {
			t.Errorf("port %s: %v", port, err)
		}
		control("cancel", "-R", asked+":"+l.Addr().String())
		eventually(t, "the end of port "+port, func() bool { return len(listening(t, port)) == 0 })
	}
	if err := exchange("unix", socket, noise(1000)); err != nil {
		t.Error(err)
	}
	control("cancel", "-R", socket+":"+l.Addr().String())
	eventually(t, "the end of the socket", func() bool { _, err := os.Lstat(socket); return err != nil })
	io.WriteString(open, "still here")
	open.(half).CloseWrite()
	if heard, err := io.ReadAll(open); string(heard) != "still herestill here" {
		t.Errorf("a tunnel outlives its listener: heard %q, %v", heard, err)
	}
}

// listening are the addresses, in the kernel's notation, at which somebody
// listens on a TCP port.
func listening(t *testing.T, port string) (addresses []string) {
	t.Helper()
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue // no IPv6
		}
		var number int
		fmt.Sscan(port, &number)
		for _, l := range strings.Split(string(text), "\n")[1:] {
			f := strings.Fields(l)
			if len(f) > 3 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", number)) {
				address, _, _ := strings.Cut(f[1], ":")
				addresses = append(addresses, address)
			}
		}
	}
	return addresses
}

func TestGatewayPorts(t *testing.T) {
	const any, any6 = "00000000", "00000000000000000000000000000000"
	const own, own6 = "0100007F", "00000000000000000000000001000000"
	probe, err := net.Listen("tcp6", "[::1]:0")
	six := err == nil
	if six {
		probe.Close()
	}
	target := answerer(t, "tcp", "127.0.0.1:0").Addr().String()
	for setting, addresses := range map[string]map[string][]string{
		"no":              {"": {own, own6}, "*": {own, own6}, "localhost": {own, own6}, "127.0.0.1": {own}, "127.0.0.2": {own, own6}},
		"yes":             {"": {any, any6}, "localhost": {any, any6}, "127.0.0.1": {any, any6}},
		"clientspecified": {"": {own, own6}, "*": {any, any6}, "localhost": {own, own6}, "127.0.0.2": {"0200007F"}, "0.0.0.0": {any}},
	} {
		r := startForwarding(t, false, func(r *rig, _ *Config) { r.config.settings.GatewayPorts = setting })
		for host, want := range addresses {
			bind := "0:" + target
			if host != "" {
				bind = host + ":" + bind
			}
			c := r.forward(t, "-R", bind)
			port := c.said(t, allocated)
			got := listening(t, port)
			if !six {
				want = slices.DeleteFunc(slices.Clone(want), func(a string) bool { return len(a) > 8 })
			}
			if !slices.Equal(got, want) {
				t.Errorf("GatewayPorts %s, %q: listens on %q, want %q", setting, host, got, want)
			}
			entry := "127.0.0.1:"
			if want[0] == "0200007F" {
				entry = "127.0.0.2:"
			}
			if err := exchange("tcp", entry+port, []byte("hello")); err != nil { // the client knows the address as one it has asked for
				t.Errorf("GatewayPorts %s, %q: %v", setting, host, err)
			}
			c.end()
		}
	}
}

func TestRemoteSockets(t *testing.T) {
	for _, jailed := range []bool{false, true} {
		t.Run(names[jailed], func(t *testing.T) {
			r := startForwarding(t, jailed, func(r *rig, _ *Config) { r.config.settings.StreamLocalBindMask = 0o117 })
			l := answerer(t, "tcp", "127.0.0.1:0")
			path := "/remote.sock"
			if !jailed {
				path = filepath.Join(t.TempDir(), "remote.sock")
			}
			c := r.forward(t, "-R", path+":"+l.Addr().String())
			waitForSocket(t, r.here(path))
			if err := exchange("unix", r.here(path), noise(3<<20)); err != nil {
				t.Error(err)
			}
			if info, err := os.Lstat(r.here(path)); err != nil || info.Mode() != os.ModeSocket|0o660 {
				t.Errorf("%v, %v: StreamLocalBindMask is 0117", info.Mode(), err)
			}
			taken := r.forward(t, "-R", path+":"+l.Addr().String())
			taken.said(t, "remote port forwarding failed for listen path")
			c.end()
			eventually(t, "the end of the socket", func() bool { _, err := os.Lstat(r.here(path)); return err != nil })

			r.config.settings.StreamLocalBindUnlink = true
			write(t, r.here(path), "in the way", 0o600)
			r.forward(t, "-R", path+":"+l.Addr().String())
			eventually(t, "the socket in the place of a file", func() bool { return exchange("unix", r.here(path), []byte("x")) == nil })
			if err := r.Shutdown(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(r.here(path)); err == nil {
				t.Error("the socket is still there after Shutdown")
			}
		})
	}
}

// ssh -R PORT lets this side reach whatever the client can.
func TestRemoteDynamicForwarding(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	content := noise(1 << 20)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(content) }))
	defer web.Close()
	r := startForwarding(t, true, nil)
	port := r.forward(t, "-R", "0").said(t, `Allocated port (\d+) for remote forward`)
	out, err := exec.Command("curl", "-sS", "--socks5", "127.0.0.1:"+port, web.URL).Output()
	if err != nil || !bytes.Equal(out, content) {
		t.Errorf("%v, %d bytes", err, len(out))
	}
}
