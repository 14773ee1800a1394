package authkeys

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"buildenv/internal/pattern"
)

// Permit tells whether the key may be used by a client at address remote, whose
// name is host, at the time now: the options from= and expiry-time=, and
// source-address of a certificate. Options that make no sense together refuse
// everybody. A server that looks no names up passes "" for host, and patterns
// of names then see the address, as with sshd and UseDNS no. A nil error permits.
func (o Options) Permit(remote netip.Addr, host string, now time.Time) error {
	if !o.Expiry.IsZero() && now.After(o.Expiry) {
		return fmt.Errorf("key expired at %s", o.Expiry.UTC().Format(time.RFC3339))
	}
	if o.Principals != nil && !o.CertAuthority {
		return errors.New("principals= on a key that is not marked with cert-authority")
	}
	remote = remote.Unmap().WithZone("")
	if o.Source != nil && !slices.ContainsFunc(o.Source, func(n netip.Prefix) bool { return n.Contains(remote) }) {
		return fmt.Errorf("certificate is not for use from %s (source-address=%v)", remote, o.Source)
	}
	if o.From == nil {
		return nil
	}
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
