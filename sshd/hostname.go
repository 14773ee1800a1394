package sshd

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"buildenv/internal/wording"
)

// resolver looks names up; net.DefaultResolver is one.
type resolver interface {
	LookupAddr(ctx context.Context, address string) (names []string, err error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// lookUpPatience bounds the two look-ups that a client's name takes: a name
// server that does not answer must not keep people out.
const lookUpPatience = 5 * time.Second

// host is the client's name, or its address where it has none or UseDNS is off.
// It is looked up once.
func (c *connection) host() string {
	if c.hostname == "" {
		c.hostname = addressOf(c.remote)
		if c.server.static.UseDNS && c.remote.IsValid() {
			c.hostname = c.confirmedName()
		}
	}
	return c.hostname
}

// confirmedName is the name that the address has, if that name has the address,
// too: whoever owns an address may claim any name for it (remote_hostname in
// OpenSSH's canohost.c). It is the address otherwise.
func (c *connection) confirmedName() string {
	ctx, cancel := context.WithTimeout(c.server.stopping, lookUpPatience)
	defer cancel()
	remote := c.remote.Addr().Unmap()
	address := remote.WithZone("").String()
	names, err := c.server.names.LookupAddr(ctx, address)
	if err != nil || len(names) == 0 {
		return address
	}
	name := strings.ToLower(strings.TrimSuffix(names[0], "."))
	if _, err := netip.ParseAddr(name); err == nil {
		c.server.log.Info("Nasty PTR record \"" + wording.Escape(name) + "\" is set up for " + address + ", ignoring")
		return address
	}
	addresses, err := c.server.names.LookupNetIP(ctx, "ip", name)
	if err != nil {
		c.server.log.Info("reverse mapping checking getaddrinfo for "+wording.Escape(name)+" ["+address+"] failed.", "error", err)
		return address
	}
	if !slices.ContainsFunc(addresses, func(a netip.Addr) bool { return a.Unmap().WithZone("") == remote.WithZone("") }) {
		c.server.log.Info("Address " + address + " maps to " + wording.Escape(name) + ", but this does not map back to the address.")
		return address
	}
	return name
}
