package sshd

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"buildenv/sshd/authkeys"
	"buildenv/sshd/forward"
	"buildenv/sshd/sshdconfig"
)

func TestForwardingPolicy(t *testing.T) {
	all := sshdconfig.Settings{AllowTCPForwarding: "yes", AllowStreamLocalForwarding: "yes", AllowAgentForwarding: true}
	but := func(change func(*sshdconfig.Settings)) sshdconfig.Settings {
		s := all
		change(&s)
		return s
	}
	any := []forward.Permits{nil, nil}
	for name, c := range map[string]struct {
		settings sshdconfig.Settings
		options  authkeys.Options
		want     forward.Policy
	}{
		"everything": {all, authkeys.Options{}, forward.Policy{
			LocalTCP: true, RemoteTCP: true, LocalSocket: true, RemoteSocket: true, Agent: true, Open: any, Listen: any}},
		"nothing said":      {sshdconfig.Settings{}, authkeys.Options{}, forward.Policy{Open: any, Listen: any}},
		"DisableForwarding": {but(func(s *sshdconfig.Settings) { s.DisableForwarding = true }), authkeys.Options{}, forward.Policy{}},
		"one direction each": {but(func(s *sshdconfig.Settings) { s.AllowTCPForwarding, s.AllowStreamLocalForwarding = "local", "remote" }),
			authkeys.Options{}, forward.Policy{LocalTCP: true, RemoteSocket: true, Agent: true, Open: any, Listen: any}},
		"no agent": {but(func(s *sshdconfig.Settings) { s.AllowAgentForwarding = false }), authkeys.Options{}, forward.Policy{
			LocalTCP: true, RemoteTCP: true, LocalSocket: true, RemoteSocket: true, Open: any, Listen: any}},
		"the key's no-agent-forwarding": {all, authkeys.Options{NoAgentForwarding: true}, forward.Policy{
			LocalTCP: true, RemoteTCP: true, LocalSocket: true, RemoteSocket: true, Open: any, Listen: any}},
		"the key's no-port-forwarding": {all, authkeys.Options{NoPortForwarding: true}, forward.Policy{Agent: true, Open: any, Listen: any}},
		"lists of both": {but(func(s *sshdconfig.Settings) { s.PermitOpen, s.PermitListen = []string{"a:1"}, []string{} }),
			authkeys.Options{PermitOpen: []string{"b:2"}, PermitListen: []string{"*:3"}, NoAgentForwarding: true, NoPortForwarding: true},
			forward.Policy{Open: []forward.Permits{{"a:1"}, {"b:2"}}, Listen: []forward.Permits{{}, {"*:3"}}}},
	} {
		if got := forwardingPolicy(c.settings, c.options); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

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

func TestLocalForwarding(t *testing.T) {
	for _, jailed := range []bool{false, true} {
		t.Run(names[jailed], func(t *testing.T) {
			r := startForwarding(t, jailed, nil)
			tcp := answerer(t, "tcp", "127.0.0.1:0").Addr().(*net.TCPAddr)
			path := "/answerer.sock"
			if !jailed {
				path = filepath.Join(t.TempDir(), "answerer.sock")
			}
			answerer(t, "unix", r.here(path))
			for name, target := range map[string]string{
				"address": fmt.Sprintf("127.0.0.1:%d", tcp.Port),
				"name":    fmt.Sprintf("localhost:%d", tcp.Port),
				"socket":  path,
			} {
				entry := filepath.Join(t.TempDir(), "entry.sock")
				c := r.forward(t, "-L", entry+":"+target)
				waitForSocket(t, entry)
				for _, size := range []int{0, 1, 3 << 20} {
					if err := exchange("unix", entry, noise(size)); err != nil {
						t.Errorf("%s, %d bytes: %v", name, size, err)
					}
				}
				c.end()
			}
		})
	}
}

// In a jail a link leads where it leads in there.
func TestSocketsOfAJail(t *testing.T) {
	r := startForwarding(t, true, nil)
	if err := os.MkdirAll(r.here("/run/deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside.sock")
	answerer(t, "unix", outside)
	answerer(t, "unix", r.here("/run/deep/inside.sock"))
	for link, to := range map[string]string{"/absolute": "/run/deep", "/upward": "../../../../run/deep", "/out": filepath.Dir(outside)} {
		if err := os.Symlink(to, r.here(link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]bool{
		"/absolute/inside.sock": true, "/upward/inside.sock": true, "/out/outside.sock": false,
		outside: false, "/../../../.." + outside: false,
	} {
		entry := filepath.Join(t.TempDir(), "entry.sock")
		c := r.forward(t, "-L", entry+":"+path)
		waitForSocket(t, entry)
		if err := exchange("unix", entry, []byte("hello")); (err == nil) != want {
			t.Errorf("%s: %v, reachable must be %v", path, err, want)
		}
		c.end()
	}
	c := r.forward(t, "-R", "/out/new.sock:/nowhere")
	c.said(t, "remote port forwarding failed")
	r.forward(t, "-R", "/absolute/new.sock:"+outside)
	eventually(t, "a socket behind a link", func() bool { return exchange("unix", r.here("/run/deep/new.sock"), []byte("hello")) == nil })
}

func TestStandardInputForwarding(t *testing.T) {
	r := startForwarding(t, false, nil)
	l := answerer(t, "tcp", "127.0.0.1:0")
	said := noise(1 << 20)
	cmd := r.command(t, "ssh", "-W", l.Addr().String(), "root@127.0.0.1")
	cmd.Stdin = bytes.NewReader(said)
	if out, errOut, status := run(t, cmd); status != 0 || out != string(said)+string(said) {
		t.Errorf("status %d, %d bytes, %s", status, len(out), errOut)
	}
}

func TestDynamicForwarding(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	content := noise(2 << 20)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(content) }))
	defer web.Close()
	_, webPort, _ := net.SplitHostPort(web.Listener.Addr().String())
	r := startForwarding(t, true, nil)
	port := freePort(t)
	r.forward(t, "-D", fmt.Sprintf("127.0.0.1:%d", port))
	for _, proxy := range []string{"--socks4", "--socks4a", "--socks5", "--socks5-hostname"} {
		var out []byte
		eventually(t, "curl "+proxy, func() (ok bool) { // the client may not listen yet
			var err error
			out, err = exec.Command("curl", "-sS", proxy, fmt.Sprintf("127.0.0.1:%d", port), "http://localhost:"+webPort+"/").Output()
			return err == nil
		})
		if !bytes.Equal(out, content) {
			t.Errorf("%s: got %d bytes", proxy, len(out))
		}
	}
}

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

func TestForwardingRefused(t *testing.T) {
	const prohibited = "administratively prohibited: open failed"
	l := answerer(t, "tcp", "127.0.0.1:0")
	address := l.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	socket := filepath.Join(t.TempDir(), "answerer.sock")
	answerer(t, "unix", socket)
	type asked struct{ open, socket, listen, listenSocket bool } // what is granted
	all := asked{true, true, true, true}
	for name, c := range map[string]struct {
		options string
		change  func(*sshdconfig.Settings)
		want    asked
	}{
		"nothing forbidden":  {"", nil, all},
		"restrict":           {"restrict", nil, asked{}},
		"restrict, but":      {"restrict,port-forwarding", nil, all},
		"no-port-forwarding": {"no-port-forwarding", nil, asked{}},
		"permitopen=":        {`permitopen="127.0.0.1:1"`, nil, asked{false, false, true, true}},
		"permitopen= it":     {`permitopen="` + address + `"`, nil, asked{true, false, true, true}},
		"permitlisten=":      {`permitlisten="1"`, nil, asked{true, true, false, true}},
		"permitlisten= it":   {`permitlisten="localhost:*"`, nil, all},
		"DisableForwarding":  {"", func(s *sshdconfig.Settings) { s.DisableForwarding = true }, asked{}},
		"TCP no":             {"", func(s *sshdconfig.Settings) { s.AllowTCPForwarding = "no" }, asked{false, false, false, true}},
		"TCP local":          {"", func(s *sshdconfig.Settings) { s.AllowTCPForwarding = "local" }, asked{true, true, false, true}},
		"TCP remote":         {"", func(s *sshdconfig.Settings) { s.AllowTCPForwarding = "remote" }, asked{false, false, true, true}},
		"sockets no":         {"", func(s *sshdconfig.Settings) { s.AllowStreamLocalForwarding = "no" }, asked{true, false, true, false}},
		"PermitOpen":         {"", func(s *sshdconfig.Settings) { s.PermitOpen = []string{"127.0.0.1:1"} }, asked{false, false, true, true}},
		"PermitListen":       {"", func(s *sshdconfig.Settings) { s.PermitListen = []string{} }, asked{true, true, false, true}},
	} {
		t.Run(name, func(t *testing.T) {
			r := startForwarding(t, false, func(r *rig, _ *Config) {
				write(t, r.file("authorized_keys"), line(c.options, r.key)+"\n", 0o600)
				if c.change != nil {
					c.change(&r.config.settings)
				}
			})
			entry, socketEntry := r.file("entry.sock"), r.file("socketentry.sock")
			tunnels := r.forward(t, "-L", entry+":"+address, "-L", socketEntry+":"+socket)
			waitForSocket(t, socketEntry)
			if got := exchange("unix", entry, []byte("x")) == nil; got != c.want.open {
				t.Errorf("opened %v, want %v", got, c.want.open)
			}
			if !c.want.open {
				tunnels.said(t, prohibited)
			}
			if got := exchange("unix", socketEntry, []byte("x")) == nil; got != c.want.socket {
				t.Errorf("opened socket %v, want %v", got, c.want.socket)
			}
			remote := r.forward(t, "-R", "localhost:0:127.0.0.1:"+port)
			if c.want.listen {
				remote.said(t, allocated)
			} else {
				remote.said(t, "remote port forwarding failed for listen port 0")
			}
			remoteSocket := r.forward(t, "-R", r.file("remote.sock")+":127.0.0.1:"+port)
			if c.want.listenSocket {
				waitForSocket(t, r.file("remote.sock"))
			} else {
				remoteSocket.said(t, "remote port forwarding failed for listen path")
			}
		})
	}
}

// What cannot be reached is told in the words of the system.
func TestForwardingFails(t *testing.T) {
	r := startForwarding(t, false, nil)
	for target, want := range map[string]string{
		fmt.Sprintf("127.0.0.1:%d", freePort(t)): "connect failed: Connection refused",
		"no-such-host.invalid:80":                "connect failed: ",
		filepath.Join(r.dir, "none.sock"):        "connect failed: No such file or directory",
	} {
		entry := filepath.Join(t.TempDir(), "entry.sock")
		c := r.forward(t, "-L", entry+":"+target)
		waitForSocket(t, entry)
		exchange("unix", entry, nil)
		c.said(t, want)
		c.end()
	}
}

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

// What a client is told, and the log, are OpenSSH's.
func TestForwardingBesideOpenSSH(t *testing.T) {
	l := answerer(t, "tcp", "127.0.0.1:0")
	closed := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	for name, c := range map[string]struct {
		config string
		args   []string
		log    string // part of the line
	}{
		"permitted":            {"", []string{"-W", l.Addr().String()}, ""},
		"refused by the peer":  {"", []string{"-W", closed}, "connect_to 127.0.0.1 port"},
		"unknown name":         {"", []string{"-W", "no-such-host.invalid:80"}, "connect_to no-such-host.invalid: "},
		"PermitOpen":           {"PermitOpen localhost:1", []string{"-W", l.Addr().String()}, "but the request was denied"},
		"AllowTcpForwarding":   {"AllowTcpForwarding no", []string{"-W", l.Addr().String()}, "refused local port forward"},
		"DisableForwarding":    {"DisableForwarding yes", []string{"-W", l.Addr().String()}, "refused local port forward"},
		"PermitListen":         {"PermitListen 1", []string{"-N", "-R", "0:" + closed}, "but the request was denied"},
		"no remote forwarding": {"AllowTcpForwarding local", []string{"-N", "-R", "0:" + closed}, ""},
		"no remote sockets":    {"AllowStreamLocalForwarding no", []string{"-N", "-R", "/no/such/socket:" + closed}, ""},
		"no such place":        {"", []string{"-N", "-R", "/no/such/socket:" + closed}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBoth(t, c.config)
			said := map[string]string{}
			for _, port := range []string{"", fmt.Sprint(b.port)} {
				cmd := b.command(t, "ssh", append([]string{"-o", "ExitOnForwardFailure=yes", "root@127.0.0.1"}, c.args...)...)
				for i, arg := range cmd.Args {
					if port != "" && strings.HasPrefix(arg, "Port=") {
						cmd.Args[i] = "Port=" + port
					}
				}
				_, errOut, status := run(t, cmd)
				said[port] = fmt.Sprintf("status %d, %s", status, errOut)
			}
			if theirs := said[fmt.Sprint(b.port)]; said[""] != theirs {
				t.Errorf("told %q, OpenSSH tells %q", said[""], theirs)
			}
			if c.log == "" {
				return
			}
			if theirs, ours := b.said(t, c.log); theirs == "" || ours != theirs {
				t.Errorf("logged %q, OpenSSH logs %q", ours, theirs)
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
