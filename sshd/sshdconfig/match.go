package sshdconfig

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"buildenv/internal/pattern"
)

// block is what a Match line demands, together with the block around the
// Include that led to its file. The nil block demands nothing.
type block struct {
	outer    *block
	criteria []criterion // all must hold; none for "Match all"
}

type criterion func(Connection) bool

// always tells whether the block holds whatever the connection. Directives
// after "Match all" count as if they stood outside of all blocks, and may be
// any; they also win over earlier ones when a connection is decided.
func (b *block) always() bool {
	return b == nil || len(b.criteria) == 0 && b.outer.always()
}

func (b *block) matches(conn Connection) bool {
	if b == nil {
		return true
	}
	for _, holds := range b.criteria {
		if !holds(conn) {
			return false
		}
	}
	return b.outer.matches(conn)
}

// parseMatch reads the arguments of a Match line: "all" alone, or criteria as
// "User root" or "User=root".
func parseMatch(args []string, outer *block) (*block, error) {
	b := &block{outer: outer}
	if len(args) == 0 {
		return nil, errors.New("one or more attributes required for Match")
	}
	if len(args) == 1 && strings.EqualFold(args[0], "all") {
		return b, nil
	}
	for len(args) > 0 {
		attribute, value, joined := strings.Cut(args[0], "=")
		args = args[1:]
		if strings.EqualFold(attribute, "all") {
			return nil, errors.New("'all' cannot be combined with other Match attributes")
		}
		if !joined && !strings.EqualFold(attribute, "invalid-user") {
			if len(args) == 0 {
				return nil, fmt.Errorf("missing Match criteria for %s", attribute)
			}
			value, args = args[0], args[1:]
		}
		holds, err := newCriterion(attribute, value)
		if err != nil {
			return nil, err
		}
		b.criteria = append(b.criteria, holds)
	}
	return b, nil
}

func newCriterion(attribute, value string) (criterion, error) {
	attribute = strings.ToLower(attribute)
	if attribute == "invalid-user" && value == "" {
		return func(c Connection) bool { return c.InvalidUser }, nil
	}
	if value == "" {
		return nil, fmt.Errorf("missing Match criteria for %s", attribute)
	}
	switch attribute {
	case "user":
		return func(c Connection) bool { return pattern.List(value, c.User) == pattern.Matched }, nil
	case "group":
		return func(c Connection) bool { return matchGroups(value, c.Groups) }, nil
	case "host":
		return func(c Connection) bool { return pattern.Host(value, c.Host) == pattern.Matched }, nil
	case "address":
		return matchAddress(value, func(c Connection) string { return c.Address })
	case "localaddress":
		return matchAddress(value, func(c Connection) string { return c.LocalAddress })
	case "localport":
		port, err := parsePort(value)
		return func(c Connection) bool { return c.LocalPort == port }, err
	}
	return nil, fmt.Errorf("unsupported Match attribute %s", attribute)
}

// matchGroups holds if a group matches the list and none is excluded by it.
func matchGroups(list string, groups []string) bool {
	found := false
	for _, group := range groups {
		switch pattern.List(list, group) {
		case pattern.Denied:
			return false
		case pattern.Matched:
			found = true
		}
	}
	return found
}

// matchAddress checks the list first: a network with bits beyond its mask is a
// mistake in the file. A connection whose address is unknown never matches.
func matchAddress(list string, of func(Connection) string) (criterion, error) {
	if _, err := pattern.Addresses(list, netip.Addr{}); err != nil {
		return nil, err
	}
	return func(c Connection) bool {
		verdict, _ := pattern.Addresses(list, parseAddress(of(c)))
		return verdict == pattern.Matched
	}, nil
}

// parseAddress gives the invalid address, which matches nothing, for text that is none.
func parseAddress(text string) netip.Addr {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr
}
