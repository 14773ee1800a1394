package sshd

import (
	"slices"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/cpu"

	"buildenv/sshd/sshdconfig"
)

// algorithms are what the server offers.
type algorithms struct {
	ssh.Config
	hostKeys []string // signature algorithms of host keys
}

// chooseAlgorithms obeys explicit lists. The defaults are what the library has
// without known weaknesses; its own defaults still hold some SHA-1.
func chooseAlgorithms(s sshdconfig.Server) algorithms {
	all := ssh.SupportedAlgorithms()
	return algorithms{
		Config: ssh.Config{
			Ciphers:      or(s.Ciphers, defaultCiphers(all.Ciphers)),
			MACs:         or(s.MACs, all.MACs),
			KeyExchanges: or(s.KexAlgorithms, all.KeyExchanges),
		},
		hostKeys: or(s.HostKeyAlgorithms, all.HostKeys),
	}
}

func or(explicit, standard []string) []string {
	if len(explicit) > 0 {
		return explicit
	}
	return standard
}

// defaultCiphers leaves chacha20-poly1305 out where the processor does AES:
// the client's order decides, OpenSSH's puts it first, and with it a transfer
// takes about twice the time.
func defaultCiphers(all []string) []string {
	fastAES := cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
	return slices.DeleteFunc(all, func(name string) bool { return fastAES && name == ssh.CipherChaCha20Poly1305 })
}
