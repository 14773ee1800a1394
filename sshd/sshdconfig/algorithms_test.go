package sshdconfig

import (
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"
)

// The library may learn and drop algorithms: the tables must follow. Of what it
// calls insecure nothing is a default.
func TestAlgorithmsAreThoseOfTheLibrary(t *testing.T) {
	secure, insecure := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	oldCertificates := []string{"ssh-rsa-cert-v01@openssh.com", "ssh-dss-cert-v01@openssh.com"}
	tests := []struct {
		name             string
		table            algorithms
		secure, insecure []string
	}{
		{"ciphers", ciphers, secure.Ciphers, insecure.Ciphers},
		{"macs", macs, secure.MACs, insecure.MACs},
		{"key exchanges", keyExchanges, append(secure.KeyExchanges, "curve25519-sha256@libssh.org"), insecure.KeyExchanges},
		{"host keys", hostKeyTypes, secure.HostKeys, insecure.HostKeys},
		{"user keys", userKeyTypes, slices.Concat(secure.PublicKeyAuths, certificateTypes), append(insecure.PublicKeyAuths, oldCertificates...)},
		{"keys of authorities", signatureTypes, secure.PublicKeyAuths, insecure.PublicKeyAuths},
	}
	for _, tt := range tests {
		ours, theirs := slices.Concat(tt.table.standard, tt.table.byName), slices.Concat(tt.secure, tt.insecure)
		slices.Sort(ours)
		slices.Sort(theirs)
		if !slices.Equal(ours, theirs) {
			t.Errorf("%s: %q, the library has %q", tt.name, ours, theirs)
		}
		for _, name := range tt.table.standard {
			if slices.Contains(tt.insecure, name) {
				t.Errorf("%s: %s is insecure", tt.name, name)
			}
		}
		for _, name := range theirs {
			if slices.Contains(tt.table.foreign, name) {
				t.Errorf("%s: %s is not foreign", tt.name, name)
			}
		}
	}
}

func TestDefaultAlgorithms(t *testing.T) {
	for _, quick := range []bool{false, true} {
		if slices.Contains(defaultCiphers(quick), chacha) == quick {
			t.Errorf("AES in the processor %v: %q", quick, defaultCiphers(quick))
		}
	}
	first := DefaultAlgorithms()
	first.Ciphers[0], first.CAKeys[0] = "changed", "changed"
	if again := DefaultAlgorithms(); again.Ciphers[0] == "changed" || again.CAKeys[0] == "changed" {
		t.Error("the defaults are shared")
	}
	if list := DefaultAlgorithms().KeyExchanges; list[0] != "mlkem768x25519-sha256" || list[len(list)-1] != "ecdh-sha2-nistp521" {
		t.Errorf("key exchanges %q: want the hybrid first and NIST's curves last", list)
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
