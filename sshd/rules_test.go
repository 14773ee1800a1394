package sshd

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// reload puts a changed copy of the configuration into force.
func (r *rig) reload(t *testing.T, change func(*fixed)) error {
	t.Helper()
	next := *r.config
	change(&next)
	return r.Reload(t.Context(), &next)
}

func TestReload(t *testing.T) {
	r := start(t, nil)
	before := r.connect(t)
	address := r.Addrs()[0].String()
	hostKey := newKey(t, r.file("host_key")) // another one under the same name
	if err := r.reload(t, func(f *fixed) { f.settings.ForceCommand = "echo changed" }); err != nil {
		t.Fatal(err)
	}
	if now := r.Addrs()[0].String(); now != address {
		t.Errorf("a listener that stays the same has moved from %s to %s", address, now)
	}
	if out, err := output(before, "echo as before"); out != "as before\n" {
		t.Errorf("a connection from before: %q, %v", out, err)
	}
	if _, stderr, status := r.ssh(t, "true"); status != 255 || !strings.Contains(stderr, "REMOTE HOST IDENTIFICATION HAS CHANGED") {
		t.Errorf("host keys were not read anew: %d, %s", status, stderr)
	}
	write(t, r.file("known_hosts"), "the-server "+line("", hostKey)+"\n", 0o600)
	if out, stderr, _ := r.ssh(t, "echo as before"); out != "changed\n" {
		t.Errorf("a new connection: %q, %s", out, stderr)
	}
}

func output(c *ssh.Client, command string) (string, error) {
	s, err := c.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close()
	out, err := s.Output(command)
	return string(out), err
}

func TestReloadMovesListeners(t *testing.T) {
	first, second := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	r := start(t, func(r *rig, _ *Config) { r.config.server.Listen = []string{first} })
	// A wildcard address cannot be opened beside the one that is open.
	wildcard := strings.Replace(first, "127.0.0.1", "0.0.0.0", 1)
	for _, want := range [][]string{{wildcard}, {first, second}, {second}} {
		if err := r.reload(t, func(f *fixed) { f.server.Listen = want }); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range r.Addrs() {
			got = append(got, a.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("listens on %q, want %q", got, want)
		}
		r.connect(t)
	}
	if c, err := net.Dial("tcp", first); err == nil {
		c.Close()
		t.Error("the old address is still open")
	}
}

// As with sshd: an address that is another's, or twice there, is told and left out.
func TestAddressesThatCannotBeOpened(t *testing.T) {
	taken := start(t, nil).Addrs()[0].String()
	free := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	r := start(t, func(r *rig, _ *Config) { r.config.server.Listen = []string{taken, free, free} })
	if got := r.Addrs(); len(got) != 1 || got[0].String() != free {
		t.Errorf("listens on %v, want %s", got, free)
	}
	_, port, _ := strings.Cut(taken, ":")
	r.logs(t, "Bind to port %s on 127.0.0.1 failed: address already in use", port)
	r.connect(t)
}

func TestNamesOfAddresses(t *testing.T) {
	for _, c := range []struct{ family, address, want string }{
		{"inet", "localhost:7", "127.0.0.1:7"}, {"any", "[::1]:7", "[::1]:7"}, {"any", ":7", ":7"}, {"any", "192.0.2.1:7", "192.0.2.1:7"},
	} {
		if got, err := resolve(t.Context(), c.family, c.address); err != nil || !slices.Equal(got, []string{c.want}) {
			t.Errorf("%s, %s: %q, %v; want %q", c.family, c.address, got, err, c.want)
		}
	}
}

func TestReloadThatFailsChangesNothing(t *testing.T) {
	r := start(t, nil)
	taken := start(t, nil).Addrs()[0].String()
	for name, change := range map[string]func(*fixed){
		"address in use": func(f *fixed) { f.server.Listen = []string{taken} },
		"no such host":   func(f *fixed) { f.server.Listen = []string{"127.0.0.1:0", "nosuchhost.invalid:22"} },
		"no keys":        func(f *fixed) { f.settings.AuthorizedKeysFiles = nil },
		"no host key":    func(f *fixed) { f.server.HostKeys = []string{r.file("none")} },
	} {
		err := r.reload(t, func(f *fixed) {
			f.settings.ForceCommand = "echo changed"
			change(f)
		})
		if err == nil || !strings.HasPrefix(err.Error(), "reload: ") {
			t.Errorf("%s: %v", name, err)
		}
		if out, err := output(r.connect(t), "echo as before"); out != "as before\n" {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
	r.Close()
	if err := r.reload(t, func(*fixed) {}); err == nil {
		t.Error("a server that has ended was reloaded")
	}
}

func TestSortOut(t *testing.T) {
	open := []listener{{network: "tcp4", address: "a"}, {network: "tcp", address: "b"}}
	kept, missing, surplus := sortOut(open, []listener{{network: "tcp4", address: "b"}, {network: "tcp4", address: "a"}})
	if len(kept) != 1 || kept[0].address != "a" || len(missing) != 1 || missing[0].address != "b" || len(surplus) != 1 || surplus[0].address != "b" {
		t.Errorf("kept %v, missing %v, surplus %v", kept, missing, surplus)
	}
}

// TestServeConn: what sshd -i does, for clients on a socket and on pipes.
func TestServeConn(t *testing.T) {
	r, audit := audited(t, func(r *rig) { r.config.settings.LogLevel = "VERBOSE" })
	for name, connect := range map[string]func(*testing.T) (server, client net.Conn){"socket": socketPair, "pipes": pipePair} {
		server, client := connect(t)
		ended := make(chan error, 1)
		go func() { ended <- r.ServeConn(server) }()
		config := &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(r.key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
		conn, channels, requests, err := ssh.NewClientConn(client, "", config)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c := ssh.NewClient(conn, channels, requests)
		want := "UNKNOWN 65535 65535, UNKNOWN 65535 UNKNOWN 65535\n" // as real sshd has it on pipes
		if name == "socket" {
			from, at := addrPort(client.LocalAddr()), addrPort(client.RemoteAddr())
			want = fmt.Sprintf("127.0.0.1 %d %d, 127.0.0.1 %d 127.0.0.1 %d\n", from.Port(), at.Port(), from.Port(), at.Port())
		}
		if out, err := output(c, `echo "$SSH_CLIENT, $SSH_CONNECTION"`); out != want || err != nil {
			t.Errorf("%s: %q, want %q, %v", name, out, want, err)
		}
		c.Close()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.logs(t, "Connection from UNKNOWN port 65535 on UNKNOWN port 65535")
	r.logs(t, "Accepted publickey for root from UNKNOWN port 65535 ssh2")
	r.logs(t, "Starting session: command for root from UNKNOWN port 65535 id 0")
	if strings.Contains(audit.String(), "invalid") {
		t.Errorf("audit: %s", audit)
	}
	r.Close()
	server, client := socketPair(t)
	if err := r.ServeConn(server); err == nil {
		t.Error("served after the end")
	}
	if n, err := client.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("the connection was left open")
	}
}

func socketPair(t *testing.T) (server, client net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err == nil {
		server, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	file, err := server.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	return stdio(t, file, file), client
}

func pipePair(t *testing.T) (server, client net.Conn) {
	theirIn, ourOut := filePair(t)
	ourIn, theirOut := filePair(t)
	return stdio(t, theirIn, theirOut), stdio(t, ourIn, ourOut)
}

func stdio(t *testing.T, in, out *os.File) net.Conn {
	c, err := Stdio(in, out)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func filePair(t *testing.T) (r, w *os.File) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}
