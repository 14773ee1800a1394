package pattern

import (
	"net/netip"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"", "a", false},
		{"root", "root", true},
		{"root", "Root", false},
		{"*", "", true},
		{"*", "anything", true},
		{"a*", "a", true},
		{"a*c", "abbbc", true},
		{"a*c", "abbbd", false},
		{"*b*b*", "abcb", true},
		{"*ab", "aab", true},
		{"?", "", false},
		{"?", "x", true},
		{"??t", "root", false},
		{"LC_*", "LC_ALL", true},
		{"*?", "", false},
	}
	for _, tt := range tests {
		if got := Match(tt.pattern, tt.s); got != tt.want {
			t.Errorf("Match(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}

// A recursive matcher needs longer than the age of the universe for this one.
func TestMatchIsNotExponential(t *testing.T) {
	if Match(strings.Repeat("*a", 200)+"b", strings.Repeat("a", 2000)) {
		t.Error("matched")
	}
}

func TestList(t *testing.T) {
	tests := []struct {
		list, s string
		want    Verdict
	}{
		{"root,admin", "admin", Matched},
		{"root,admin", "user", None},
		{"*,!root", "root", Denied},
		{"!root,*", "root", Denied},
		{"!root", "admin", None},
		{"!root,*", "admin", Matched},
		{"", "admin", None},
	}
	for _, tt := range tests {
		if got := List(tt.list, tt.s); got != tt.want {
			t.Errorf("List(%q, %q) = %v, want %v", tt.list, tt.s, got, tt.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	tests := []struct {
		list, addr string
		want       Verdict
		bad        bool
	}{
		{"192.0.2.0/24", "192.0.2.77", Matched, false},
		{"192.0.2.0/24", "192.0.3.1", None, false},
		{"192.0.2.0/24", "::ffff:192.0.2.77", Matched, false},
		{"192.0.2.1", "192.0.2.1", Matched, false},
		{"192.0.2.*", "192.0.2.9", Matched, false},
		{"192.0.2.?", "192.0.2.10", None, false},
		{"192.0.2.0/24,!192.0.2.5", "192.0.2.5", Denied, false},
		{"!192.0.2.5,192.0.2.0/24", "192.0.2.6", Matched, false},
		{"2001:db8::/32", "2001:db8::1", Matched, false},
		{"2001:db8::/32", "192.0.2.1", None, false},
		{"fe80::/10", "fe80::1%eth0", Matched, false},
		{"0.0.0.0/0", "2001:db8::1", None, false},
		{"192.0.2.1/24", "192.0.2.1", None, true},
		{"192.0.2.0/33", "192.0.2.1", None, true},
		{"192.0.2.0/24,", "192.0.3.1", None, true},
		{"192.0.2.0/999", "192.0.2.1", None, false},
		{"*", "", None, false},
		{"192.0.2.1/24", "", None, true},
	}
	for _, tt := range tests {
		addr, _ := netip.ParseAddr(tt.addr) // "" stands for no address
		got, err := Addresses(tt.list, addr)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("Addresses(%q, %q) = %v, %v, want %v", tt.list, tt.addr, got, err, tt.want)
		}
	}
}

func TestOrigin(t *testing.T) {
	tests := []struct {
		list, host, addr string
		want             bool
	}{
		{"*.example.com", "node.Example.com", "192.0.2.1", true},
		{"*.example.com", "node.example.org", "192.0.2.1", false},
		{"192.0.2.0/24", "node.example.org", "192.0.2.1", true},
		{"192.0.2.0/24,!bad.example.org", "bad.example.org", "192.0.2.1", false},
		{"*.example.org,!192.0.2.1", "good.example.org", "192.0.2.1", false},
		{"!192.0.2.1", "good.example.org", "192.0.2.2", false},
	}
	for _, tt := range tests {
		got, err := Origin(tt.list, tt.host, netip.MustParseAddr(tt.addr))
		if got != tt.want || err != nil {
			t.Errorf("Origin(%q, %q, %s) = %v, %v", tt.list, tt.host, tt.addr, got, err)
		}
	}
}
