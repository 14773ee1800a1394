package sshdconfig

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/cpu"

	"buildenv/internal/pattern"
)

// Algorithms are lists of names in order of preference.
type Algorithms struct {
	Ciphers, MACs, KeyExchanges, HostKeys []string // what the server offers
	OldMACs                               []string // for clients that know none of MACs
	UserKeys                              []string // what users may sign with
	CAKeys                                []string // what authorities may sign certificates with
}

// DefaultAlgorithms are in force where a configuration has no list of its own.
func DefaultAlgorithms() Algorithms {
	return Algorithms{
		Ciphers: slices.Clone(ciphers.standard), MACs: slices.Clone(macs.standard), OldMACs: []string{"hmac-sha2-256", "hmac-sha2-512"},
		KeyExchanges: slices.Clone(keyExchanges.standard), HostKeys: slices.Clone(hostKeyTypes.standard),
		UserKeys: slices.Clone(userKeyTypes.standard), CAKeys: slices.Clone(signatureTypes.standard),
	}
}

// QuickAES tells whether the processor does AES and its GCM mode.
var QuickAES = cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL

// algorithms says which names an algorithm directive may use. It repeats what
// golang.org/x/crypto/ssh implements, so that this package need not import the
// protocol; a test compares the two.
type algorithms struct {
	standard  []string // in order of preference; what +, - and ^ modify
	byName    []string // offered only to those who name them
	foreign   []string // of OpenSSH, not to be had here
	wildcards bool     // patterns may stand for names
}

var ciphers = algorithms{
	standard: defaultCiphers(QuickAES),
	byName:   []string{chacha, "aes128-cbc", "3des-cbc", "arcfour256", "arcfour128", "arcfour"},
	foreign:  []string{"aes192-cbc", "aes256-cbc", "rijndael-cbc@lysator.liu.se"},
}

const chacha = "chacha20-poly1305@openssh.com"

// defaultCiphers leaves chacha20-poly1305 out where the processor does AES:
// the client's order decides, OpenSSH's puts it first, and with it a transfer
// takes about twice the time.
func defaultCiphers(quickAES bool) []string {
	list := []string{chacha, "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr"}
	if quickAES {
		return list[1:]
	}
	return list
}

// macs are by default those that authenticate what is sent, not what is meant
// (encrypt-then-MAC).
var macs = algorithms{
	standard: []string{"hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"},
	byName:   []string{"hmac-sha2-256", "hmac-sha2-512", "hmac-sha1", "hmac-sha1-96"},
	foreign: []string{"hmac-md5", "hmac-md5-96", "umac-64@openssh.com", "umac-128@openssh.com",
		"hmac-sha1-etm@openssh.com", "hmac-sha1-96-etm@openssh.com", "hmac-md5-etm@openssh.com",
		"hmac-md5-96-etm@openssh.com", "umac-64-etm@openssh.com", "umac-128-etm@openssh.com"},
}

// keyExchanges have the NIST curves last, for clients that may use nothing else.
var keyExchanges = algorithms{
	standard: []string{"mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org", "diffie-hellman-group16-sha512",
		"ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521"},
	byName: []string{"diffie-hellman-group14-sha256", "diffie-hellman-group-exchange-sha256",
		"diffie-hellman-group14-sha1", "diffie-hellman-group1-sha1", "diffie-hellman-group-exchange-sha1"},
	foreign: []string{"diffie-hellman-group18-sha512", "sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com",
		"mlkem768nistp256-sha256", "mlkem1024nistp384-sha384"},
}

// hostKeyTypes have no security keys: those cannot be read from a file.
var hostKeyTypes = algorithms{
	standard: slices.DeleteFunc(slices.Concat(certificateTypes, keyTypes), func(name string) bool { return strings.HasPrefix(name, "sk-") }),
	byName:   []string{"ssh-rsa", "ssh-dss", "ssh-rsa-cert-v01@openssh.com", "ssh-dss-cert-v01@openssh.com"},
	foreign: []string{"sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519-cert-v01@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
		"sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", "webauthn-sk-ecdsa-sha2-nistp256@openssh.com"},
	wildcards: true,
}

var userKeyTypes = algorithms{
	standard:  slices.Concat(certificateTypes, keyTypes),
	byName:    []string{"ssh-rsa", "ssh-dss", "ssh-rsa-cert-v01@openssh.com", "ssh-dss-cert-v01@openssh.com"},
	foreign:   []string{"webauthn-sk-ecdsa-sha2-nistp256@openssh.com"},
	wildcards: true,
}

// signatureTypes are what an authority may sign with.
var signatureTypes = algorithms{
	standard:  keyTypes,
	byName:    []string{"ssh-rsa", "ssh-dss"},
	foreign:   []string{"webauthn-sk-ecdsa-sha2-nistp256@openssh.com"},
	wildcards: true,
}

// keyTypes and certificateTypes are in OpenSSH's order.
var (
	keyTypes = []string{"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
		"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", "rsa-sha2-512", "rsa-sha2-256"}
	certificateTypes = []string{"ssh-ed25519-cert-v01@openssh.com", "ecdsa-sha2-nistp256-cert-v01@openssh.com",
		"ecdsa-sha2-nistp384-cert-v01@openssh.com", "ecdsa-sha2-nistp521-cert-v01@openssh.com", "sk-ssh-ed25519-cert-v01@openssh.com",
		"sk-ecdsa-sha2-nistp256-cert-v01@openssh.com", "rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-256-cert-v01@openssh.com"}
)

// resolve reads a list. One that begins with + adds to the standard one, with
// ^ puts names at its head, with - takes away the names that match. Names that
// only OpenSSH has are returned as missing.
func (a algorithms) resolve(spec string) (list, missing []string, err error) {
	operator, names := spec[:1], strings.TrimLeft(spec[:1], "+-^")+spec[1:]
	if operator == "-" {
		list = slices.DeleteFunc(slices.Clone(a.standard), func(name string) bool { return pattern.List(names, name) == pattern.Matched })
		return list, nil, requireSome(list)
	}
	for name := range strings.SplitSeq(names, ",") {
		found, known := a.find(name)
		if !known {
			return nil, nil, fmt.Errorf("unknown algorithm %q", name)
		}
		if len(found) == 0 {
			missing = append(missing, name)
		}
		list = append(list, found...)
	}
	switch operator {
	case "+":
		list = slices.Concat(a.standard, list)
	case "^":
		list = slices.Concat(list, a.standard)
	}
	list = unique(list)
	return list, missing, requireSome(list)
}

// find returns what a name or a pattern stands for; known is false for a name
// that OpenSSH would not know either.
func (a algorithms) find(name string) (found []string, known bool) {
	for _, have := range slices.Concat(a.standard, a.byName) {
		if have == name || a.wildcards && pattern.Match(name, have) {
			found = append(found, have)
		}
	}
	return found, len(found) > 0 || slices.Contains(a.foreign, name) || a.wildcards && strings.ContainsAny(name, "*?")
}

func requireSome(list []string) error {
	if len(list) == 0 {
		return fmt.Errorf("this server supports none of the algorithms")
	}
	return nil
}

// unique keeps the first of equal names.
func unique(list []string) []string {
	var kept []string
	for _, name := range list {
		if !slices.Contains(kept, name) {
			kept = append(kept, name)
		}
	}
	return kept
}
