package sshd

import (
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/sshdconfig"
)

// algorithms are what the server offers.
type algorithms struct {
	ssh.Config
	hostKeys []string // signature algorithms of host keys
}

// chooseAlgorithms obeys explicit lists, and has the defaults for the others.
func chooseAlgorithms(s sshdconfig.Server) algorithms {
	standard := sshdconfig.DefaultAlgorithms()
	return algorithms{
		Config: ssh.Config{
			Ciphers:      or(s.Ciphers, standard.Ciphers),
			MACs:         or(s.MACs, standard.MACs),
			KeyExchanges: or(s.KexAlgorithms, standard.KeyExchanges),
		},
		hostKeys: or(s.HostKeyAlgorithms, standard.HostKeys),
	}
}

func or(explicit, standard []string) []string {
	if len(explicit) > 0 {
		return explicit
	}
	return standard
}

// signatures are the algorithms of user keys as the library has them: it knows
// certificates by the algorithm of the key that they certify.
func signatures(accepted []string) []string {
	var list []string
	for _, name := range or(accepted, sshdconfig.DefaultAlgorithms().UserKeys) {
		if plain, ok := strings.CutSuffix(name, "-cert-v01@openssh.com"); ok {
			name = plain
			if strings.HasPrefix(name, "sk-") {
				name += "@openssh.com"
			}
		}
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}
