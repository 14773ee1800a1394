package pattern

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Addresses judges an address by a list of addresses, networks in CIDR
// notation and patterns, any of them negated by !. An invalid (zero) address
// matches nothing, which serves to check a list. The list is in error if an
// element is empty or if a network has bits set beyond its mask: sshd takes
// 192.0.2.1/24 for a mistake, and so do we.
func Addresses(list string, addr netip.Addr) (Verdict, error) {
	addr = addr.Unmap().WithZone("")
	verdict := None
	for item := range strings.SplitSeq(list, ",") {
		element, negated := strings.CutPrefix(item, "!")
		hit, err := matchAddress(element, addr)
		switch {
		case err != nil:
			return None, err
		case hit && negated:
			return Denied, nil
		case hit:
			verdict = Matched
		}
	}
	return verdict, nil
}

func matchAddress(element string, addr netip.Addr) (bool, error) {
	if element == "" {
		return false, fmt.Errorf("empty element in an address list")
	}
	network, isNetwork, err := parseNetwork(element)
	switch {
	case err != nil:
		return false, err
	case !addr.IsValid():
		return false, nil
	case isNetwork:
		return network.Contains(addr), nil
	}
	return Match(element, addr.String()), nil
}

// parseNetwork reads an address or a network; what is neither, such as
// 192.0.2.*, is left to be a pattern.
func parseNetwork(element string) (network netip.Prefix, ok bool, err error) {
	host, mask, masked := strings.Cut(element, "/")
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}, false, nil
	}
	bits := addr.BitLen()
	if masked {
		n, err := strconv.ParseUint(mask, 10, 8)
		if err != nil || n > 128 {
			return netip.Prefix{}, false, nil
		}
		bits = int(n)
	}
	network = netip.PrefixFrom(addr.WithZone(""), bits)
	if !network.IsValid() || network.Masked() != network {
		return netip.Prefix{}, false, fmt.Errorf("inconsistent mask length for network %q", element)
	}
	return network, true, nil
}

// Origin judges where a client comes from, by host name and by address, as
// from= does (sshd(8)): a negated element that matches either of them decides
// against it.
func Origin(list, host string, addr netip.Addr) (bool, error) {
	byAddress, err := Addresses(list, addr)
	if err != nil || byAddress == Denied {
		return false, err
	}
	byHost := Host(list, host)
	return byHost != Denied && (byHost == Matched || byAddress == Matched), nil
}
