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
// "User root", "User=root" or "User = root".
func parseMatch(args []string, outer *block) (*block, error) {
	b := &block{outer: outer}
	if len(args) == 0 {
		return nil, errors.New("one or more attributes required for Match")
	}
	if len(args) == 1 && strings.EqualFold(args[0], "all") {
		return b, nil
	}
	for len(args) > 0 {
		var attribute, value string
		var err error
		if attribute, value, args, err = nextCriterion(args); err != nil {
			return nil, err
		}
		holds, err := newCriterion(attribute, value)
		if err != nil {
			return nil, err
		}
		b.criteria = append(b.criteria, holds)
	}
	return b, nil
}

// nextCriterion takes an attribute and its value from the head of the arguments.
func nextCriterion(args []string) (attribute, value string, rest []string, err error) {
	attribute, value, joined := strings.Cut(args[0], "=")
	rest = args[1:]
	switch {
	case strings.EqualFold(attribute, "all"):
		return "", "", nil, errors.New("'all' cannot be combined with other Match attributes")
	case strings.EqualFold(attribute, "invalid-user"):
		return "invalid-user", value, rest, nil
	}
	if !joined && len(rest) > 0 {
		// the equal sign may stand alone or before the value
		value, joined = strings.CutPrefix(rest[0], "=")
		rest = rest[1:]
	}
	if joined && value == "" && len(rest) > 0 {
		value, rest = rest[0], rest[1:]
	}
	if value == "" {
		return "", "", nil, fmt.Errorf("missing Match criteria for %s", attribute)
	}
	return strings.ToLower(attribute), value, rest, nil
}

// release is what "Match Version" is compared to: the release of OpenSSH whose
// directives this package knows.
const release = "OpenSSH_10.0"

// newCriterion makes a criterion of which nothing that is unknown of a
// connection can hold.
func newCriterion(attribute, value string) (criterion, error) {
	switch attribute {
	case "invalid-user":
		if value != "" {
			return nil, errors.New("invalid-user takes no argument")
		}
		return func(c Connection) bool { return c.InvalidUser }, nil
	case "user":
		return matchName(value, func(c Connection) string { return c.User }), nil
	case "group":
		return func(c Connection) bool { return matchGroups(value, c.Groups) }, nil
	case "host":
		return func(c Connection) bool { return c.Host != "" && pattern.Host(value, c.Host) == pattern.Matched }, nil
	case "address":
		return matchAddress(value, func(c Connection) string { return c.Address })
	case "localaddress":
		return matchAddress(value, func(c Connection) string { return c.LocalAddress })
	case "localport":
		port, err := parsePort(value)
		if err != nil || port == 0 {
			return nil, says("Invalid port '%s' on Match line", value)
		}
		return func(c Connection) bool { return c.LocalPort == port }, nil
	case "rdomain":
		return matchName(value, func(c Connection) string { return c.RDomain }), nil
	case "version":
		return matchName(value, func(Connection) string { return release }), nil
	}
	return nil, says("Unsupported Match attribute %s", attribute)
}

// matchName holds for a name that is known and matches a list.
func matchName(list string, of func(Connection) string) criterion {
	return func(c Connection) bool {
		name := of(c)
		return name != "" && pattern.List(list, name) == pattern.Matched
	}
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
