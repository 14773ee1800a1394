package sshd

import (
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"
)

// The library refuses the whole handshake for a name that it does not know.
func TestSignaturesAreThoseOfTheLibrary(t *testing.T) {
	known := append(ssh.SupportedAlgorithms().PublicKeyAuths, ssh.InsecureAlgorithms().PublicKeyAuths...)
	for _, name := range signatures(nil) {
		if !slices.Contains(known, name) {
			t.Errorf("the library does not know %s", name)
		}
	}
	got := signatures([]string{"sk-ssh-ed25519-cert-v01@openssh.com", "ssh-rsa-cert-v01@openssh.com", "rsa-sha2-512", "rsa-sha2-512-cert-v01@openssh.com"})
	if want := []string{"sk-ssh-ed25519@openssh.com", "ssh-rsa", "rsa-sha2-512"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
