package sshdconfig

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"buildenv/internal/pattern"
)

// Admit obeys DenyUsers, AllowUsers, DenyGroups and AllowGroups, in this order
// (allowed_user in OpenSSH's auth.c). A nil error admits the user; whether he
// can prove who he is, and PermitRootLogin, are other questions.
func (s Settings) Admit(conn Connection) error {
	switch {
	case slices.ContainsFunc(s.DenyUsers, conn.isUser):
		return conn.refused("listed in DenyUsers")
	case len(s.AllowUsers) > 0 && !slices.ContainsFunc(s.AllowUsers, conn.isUser):
		return conn.refused("not listed in AllowUsers")
	case slices.ContainsFunc(s.DenyGroups, conn.inGroup):
		return conn.refused("a group is listed in DenyGroups")
	case len(s.AllowGroups) > 0 && !slices.ContainsFunc(s.AllowGroups, conn.inGroup):
		return conn.refused("none of user's groups are listed in AllowGroups")
	}
	return nil
}

func (c Connection) refused(reason string) error {
	//lint:ignore ST1005 sshd's own words
	return fmt.Errorf("User %s from %s not allowed because %s", c.User, c.Address, reason)
}

// isUser matches "user" or "user@origin".
func (c Connection) isUser(list string) bool {
	at := strings.LastIndexByte(list, '@')
	if at < 0 {
		return pattern.Match(list, c.User)
	}
	ok, err := pattern.Origin(list[at+1:], c.Host, parseAddress(c.Address))
	return pattern.Match(list[:at], c.User) && ok && err == nil
}

func (c Connection) inGroup(name string) bool {
	return slices.ContainsFunc(c.Groups, func(group string) bool { return pattern.Match(name, group) })
}

// checkUser tells whether an element of AllowUsers or DenyUsers can be decided.
func checkUser(keyword, list string) error {
	at := strings.LastIndexByte(list, '@')
	if at < 0 {
		return checkName(keyword, list)
	}
	if _, err := pattern.Origin(list[at+1:], "", netip.Addr{}); err != nil {
		return says("invalid %s pattern: %q: %v", keyword, list, err)
	}
	return nil
}

// AcceptsKey tells whether PubkeyAcceptedAlgorithms has an algorithm for a type
// of keys or certificates. RSA has several, whose names differ from the type's.
func (s Settings) AcceptsKey(keyType string) bool {
	accepted := s.PubkeyAcceptedAlgorithms
	if len(accepted) == 0 {
		accepted = userKeyTypes.standard
	}
	suffix, isRSA := strings.CutPrefix(keyType, "ssh-rsa")
	return slices.Contains(accepted, keyType) ||
		isRSA && (slices.Contains(accepted, "rsa-sha2-256"+suffix) || slices.Contains(accepted, "rsa-sha2-512"+suffix))
}
