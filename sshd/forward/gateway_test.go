package forward

import (
	"net"
	"testing"
)

// The rows are those of sshd's table in words: channels.c, channel_fwd_bind_addr.
func TestScopeOf(t *testing.T) {
	for host, want := range map[string]struct{ no, yes, clientspecified scope }{
		"":          {loopback, everywhere, everywhere},
		"*":         {loopback, everywhere, everywhere},
		"localhost": {loopback, everywhere, loopback},
		"127.0.0.1": {named, everywhere, named},
		"::1":       {named, everywhere, named},
		"0.0.0.0":   {loopback, everywhere, named},
		"10.0.0.1":  {loopback, everywhere, named},
		"a.example": {loopback, everywhere, named},
	} {
		for gatewayPorts, want := range map[string]scope{"no": want.no, "": want.no, "yes": want.yes, "clientspecified": want.clientspecified} {
			if got := scopeOf(gatewayPorts, host); got != want {
				t.Errorf("GatewayPorts %s, %q: %d, want %d", gatewayPorts, host, got, want)
			}
		}
	}
}

func TestListenTCP(t *testing.T) {
	for name, c := range map[string]struct {
		config Config
		host   string
		want   map[string]bool // addresses; false if it may be missing
	}{
		"loopback":      {Config{}, "", map[string]bool{"127.0.0.1": true, "::1": false}},
		"everywhere":    {Config{GatewayPorts: "yes"}, "10.9.8.7", map[string]bool{"0.0.0.0": true, "::": false}},
		"one of two":    {Config{}, "127.0.0.1", map[string]bool{"127.0.0.1": true}},
		"one family":    {Config{Family: "inet"}, "localhost", map[string]bool{"127.0.0.1": true}},
		"named":         {Config{GatewayPorts: "clientspecified"}, "127.0.0.2", map[string]bool{"127.0.0.2": true}},
		"not ours":      {Config{GatewayPorts: "clientspecified"}, "192.0.2.1", nil},
		"other family":  {Config{Family: "inet6"}, "127.0.0.1", nil},
		"not a machine": {Config{GatewayPorts: "clientspecified"}, "nowhere.invalid", nil},
	} {
		f := newForwarder(t, c.config, nil)
		sockets, port, err := f.listenTCP(c.host, 0)
		if (err == nil) != (c.want != nil) {
			t.Errorf("%s: %v", name, err)
		}
		got := map[string]bool{}
		for _, l := range sockets {
			at := l.Addr().(*net.TCPAddr)
			got[at.IP.String()] = true
			if _, expected := c.want[at.IP.String()]; !expected || at.Port != port {
				t.Errorf("%s: listens on %s, told port %d", name, at, port)
			}
			l.Close()
		}
		for address, must := range c.want {
			if must && !got[address] {
				t.Errorf("%s: does not listen on %s", name, address)
			}
		}
	}
}
