package sshdconfig

import (
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"
)

// The library may learn and drop algorithms: the tables must follow.
func TestAlgorithmsAreThoseOfTheLibrary(t *testing.T) {
	secure, insecure := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	tests := []struct {
		name             string
		table            algorithms
		standard, byName []string
	}{
		{"ciphers", ciphers, secure.Ciphers, insecure.Ciphers},
		{"macs", macs, secure.MACs, insecure.MACs},
		{"key exchanges", keyExchanges, secure.KeyExchanges, append([]string{"curve25519-sha256@libssh.org"}, insecure.KeyExchanges...)},
		{"host keys", hostKeyTypes, secure.HostKeys, insecure.HostKeys},
		{"user keys", userKeyTypes, secure.PublicKeyAuths, insecure.PublicKeyAuths},
	}
	for _, tt := range tests {
		if !slices.Equal(tt.table.standard, tt.standard) {
			t.Errorf("%s: standard %q, the library has %q", tt.name, tt.table.standard, tt.standard)
		}
		if !slices.Equal(tt.table.byName, tt.byName) {
			t.Errorf("%s: by name %q, the library has %q", tt.name, tt.table.byName, tt.byName)
		}
		for _, name := range slices.Concat(tt.standard, tt.byName) {
			if slices.Contains(tt.table.foreign, name) {
				t.Errorf("%s: %s is not foreign", tt.name, name)
			}
		}
	}
}

func TestResolve(t *testing.T) {
	table := algorithms{standard: []string{"a1", "a2", "b1"}, byName: []string{"old"}, foreign: []string{"strange"}}
	tests := []struct {
		spec          string
		list, missing []string
	}{
		{"b1,a1", []string{"b1", "a1"}, nil},
		{"a1,old,strange,a1", []string{"a1", "old"}, []string{"strange"}},
		{"+old,a1", []string{"a1", "a2", "b1", "old"}, nil},
		{"^b1,old", []string{"b1", "old", "a1", "a2"}, nil},
		{"-a*", []string{"b1"}, nil},
		{"-nosuch", []string{"a1", "a2", "b1"}, nil},
	}
	for _, tt := range tests {
		list, missing, err := table.resolve(tt.spec)
		if err != nil || !slices.Equal(list, tt.list) || !slices.Equal(missing, tt.missing) {
			t.Errorf("%s: %q, %q, %v", tt.spec, list, missing, err)
		}
	}
	table.wildcards = true
	if list, _, err := table.resolve("a*"); err != nil || !slices.Equal(list, []string{"a1", "a2"}) {
		t.Errorf("a*: %q, %v", list, err)
	}
}
