package authkeys

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"buildenv/internal/pattern"
)

// Permit tells whether the key may be used by a client at address remote, whose
// name is host, at the time now: the options from= and expiry-time=. A server
// that looks no names up passes "" for host, and patterns of names then see
// the address, as with sshd and UseDNS no. A nil error permits.
func (o Options) Permit(remote netip.Addr, host string, now time.Time) error {
	if !o.Expiry.IsZero() && now.After(o.Expiry) {
		return fmt.Errorf("key expired at %s", o.Expiry.UTC().Format(time.RFC3339))
	}
	if o.From == nil {
		return nil
	}
	remote = remote.Unmap()
	if host == "" {
		host = remote.String()
	}
	required := strings.Join(o.From, ",")
	ok, err := pattern.Origin(required, host, remote)
	if err != nil {
		return fmt.Errorf("from=%q: %w", required, err)
	}
	if !ok {
		return fmt.Errorf("correct key but not from a permitted host (host=%s, ip=%s, required=%s)", host, remote, required)
	}
	return nil
}
