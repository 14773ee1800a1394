package sshd

import (
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

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
