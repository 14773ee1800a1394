package forward

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"
)

// scope is where a remote forwarding listens.
type scope int

const (
	loopback scope = iota
	everywhere
	named // on the address that the client names
)

// scopeOf is sshd's way to deal with the address that a client asks for
// (sshd_config(5), GatewayPorts; channels.c, channel_fwd_bind_addr). With
// clientspecified it is obeyed. With yes all addresses are meant, whatever it
// is; with no only the loopback ones are, of which it may choose one.
func scopeOf(gatewayPorts, host string) scope {
	one := host == "127.0.0.1" || host == "::1"
	switch {
	case gatewayPorts == "yes":
		return everywhere
	case gatewayPorts != "clientspecified" && one:
		return named
	case gatewayPorts != "clientspecified":
		return loopback
	case host == "" || host == "*":
		return everywhere
	case host == "localhost": // of either family
		return loopback
	}
	return named
}

// addressPatience bounds the look-up of a name that a client wants to listen on:
// the connection's other requests wait for it.
const addressPatience = 10 * time.Second

// addresses are what to listen on, each for one family.
func (f *Forwarder) addresses(ctx context.Context, host string) ([]net.IP, error) {
	switch scopeOf(f.config.GatewayPorts, host) {
	case everywhere:
		return f.ofFamily(net.IPv4zero, net.IPv6unspecified), nil
	case loopback:
		return f.ofFamily(net.IPv4(127, 0, 0, 1), net.IPv6loopback), nil
	}
	ctx, cancel := context.WithTimeout(ctx, addressPatience)
	defer cancel()
	found, err := net.DefaultResolver.LookupIP(ctx, f.network("ip"), host)
	if err != nil {
		return nil, fmt.Errorf("look up address to listen on: %w", err)
	}
	return f.ofFamily(found...), nil
}

// ofFamily leaves out what AddressFamily does.
func (f *Forwarder) ofFamily(all ...net.IP) (some []net.IP) {
	for _, ip := range all {
		four := ip.To4() != nil
		if four && f.config.Family != "inet6" || !four && f.config.Family != "inet" {
			some = append(some, ip)
		}
	}
	return some
}

// network is tcp or ip, of the family that the configuration allows.
func (f *Forwarder) network(kind string) string {
	return kind + map[string]string{"inet": "4", "inet6": "6"}[f.config.Family]
}

// listenTCP listens on all addresses that host means, on one port, which it
// returns: for port 0 the first socket chooses it. As with sshd it is enough that
// one of them can be had: there may be no IPv6.
func (f *Forwarder) listenTCP(host string, port int) (sockets []net.Listener, bound int, err error) {
	ips, err := f.addresses(f.ctx, host)
	if err != nil {
		return nil, 0, err
	}
	err = fmt.Errorf("no address of family %s", f.config.Family)
	for _, ip := range ips {
		network := "tcp6" // and nothing else: the sockets of a family are its own
		if ip.To4() != nil {
			network = "tcp4"
		}
		l, failure := net.Listen(network, net.JoinHostPort(ip.String(), strconv.Itoa(port)))
		if failure != nil {
			err = failure
			continue
		}
		port = l.Addr().(*net.TCPAddr).Port
		sockets = append(sockets, l)
	}
	if len(sockets) == 0 {
		return nil, 0, err
	}
	return sockets, port, nil
}
