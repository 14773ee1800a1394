package sshd

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"math/big"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Flags of a security key's signature (OpenSSH's PROTOCOL.u2f).
const (
	userPresent  = 1
	userVerified = 4
)

// securityKey signs as a FIDO token does, whose user may or may not touch it.
type securityKey struct {
	public ssh.PublicKey
	flags  byte
	count  uint32
	sign   func(message []byte) []byte // blob of the signature
}

var _ ssh.Signer = (*securityKey)(nil)

const application = "ssh:"

func (k *securityKey) PublicKey() ssh.PublicKey { return k.public }

// Sign signs what PROTOCOL.u2f says: the hashes of application and message, and
// between them the flags and a counter, which come along in the clear.
func (k *securityKey) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	k.count++
	clear := struct {
		Flags   byte
		Counter uint32
	}{k.flags, k.count}
	app, message := sha256.Sum256([]byte(application)), sha256.Sum256(data)
	signed := append(append(app[:], ssh.Marshal(clear)...), message[:]...)
	return &ssh.Signature{Format: k.public.Type(), Blob: k.sign(signed), Rest: ssh.Marshal(clear)}, nil
}

func parsePublic(t *testing.T, fields any) ssh.PublicKey {
	t.Helper()
	key, err := ssh.ParsePublicKey(ssh.Marshal(fields))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ed25519SecurityKey(t *testing.T) *securityKey {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &securityKey{
		public: parsePublic(t, struct {
			Kind        string
			Key         []byte
			Application string
		}{ssh.KeyAlgoSKED25519, public, application}),
		flags: userPresent,
		sign:  func(message []byte) []byte { return ed25519.Sign(private, message) },
	}
}

func ecdsaSecurityKey(t *testing.T) *securityKey {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return &securityKey{
		public: parsePublic(t, struct {
			Kind, Curve string
			Point       []byte
			Application string
		}{ssh.KeyAlgoSKECDSA256, "nistp256", point, application}),
		flags: userPresent,
		sign: func(message []byte) []byte {
			hash := sha256.Sum256(message)
			r, s, err := ecdsa.Sign(rand.Reader, private, hash[:])
			if err != nil {
				panic(err)
			}
			return ssh.Marshal(struct{ R, S *big.Int }{r, s})
		},
	}
}

func TestSecurityKeys(t *testing.T) {
	tests := []struct {
		name, options string
		flags         byte
		touchRequired bool   // PubkeyAuthOptions
		refusal       string // "" for welcome
	}{
		{name: "touched", flags: userPresent},
		{name: "touched and verified", flags: userPresent | userVerified},
		{name: "not touched", flags: 0, refusal: "user presence"},
		{name: "not touched, only verified", flags: userVerified, refusal: "user presence"},
		{name: "need not be touched", options: "no-touch-required", flags: 0},
		{name: "need not, and is", options: "no-touch-required", flags: userPresent},
		{name: "the server's demand", options: "no-touch-required", flags: 0, touchRequired: true, refusal: "user presence"},
		{name: "the server's demand, met", options: "no-touch-required", flags: userPresent, touchRequired: true},
		{name: "to be verified", options: "verify-required", flags: userPresent | userVerified, refusal: "verify-required"},
	}
	for kind, plug := range map[string]func(*testing.T) *securityKey{"ED25519-SK": ed25519SecurityKey, "ECDSA-SK": ecdsaSecurityKey} {
		for _, c := range tests {
			t.Run(kind+" "+c.name, func(t *testing.T) {
				r, audit := audited(t, func(r *rig) { r.config.settings.TouchRequired = c.touchRequired })
				key := plug(t)
				key.flags = c.flags
				write(t, r.file("authorized_keys"), line(c.options, key)+"\n", 0o600)
				client, err := r.dial("root", ssh.PublicKeys(key))
				if c.refusal != "" {
					if err == nil {
						client.Close()
						t.Fatal("came in")
					}
					r.logs(t, "%s", c.refusal)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				client.Close()
				r.logs(t, "Accepted publickey for root from 127.0.0.1 port ")
				r.logs(t, " ssh2: %s %s", kind, ssh.FingerprintSHA256(key.public))
				ended(t, audit, 1)
				if accepted := records(t, audit, "auth.accepted"); len(accepted) != 1 || accepted[0]["key"] != key.public.Type() {
					t.Errorf("%v", accepted)
				}
			})
		}
	}
}

// TestForgedSecurityKeys: what is in the clear is signed, too.
func TestForgedSecurityKeys(t *testing.T) {
	for name, forge := range map[string]func(*ssh.Signature){
		"touch":       func(s *ssh.Signature) { s.Rest[0] |= userPresent },
		"counter":     func(s *ssh.Signature) { s.Rest[4]++ },
		"short":       func(s *ssh.Signature) { s.Rest = s.Rest[:3] },
		"none":        func(s *ssh.Signature) { s.Rest = nil },
		"signature":   func(s *ssh.Signature) { s.Blob[len(s.Blob)-1]++ },
		"plain name":  func(s *ssh.Signature) { s.Format = ssh.KeyAlgoED25519 },
		"more behind": func(s *ssh.Signature) { s.Rest = append(s.Rest, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, nil)
			key := ed25519SecurityKey(t)
			key.flags = 0
			if name != "touch" {
				key.flags = userPresent
			}
			write(t, r.file("authorized_keys"), line("", key)+"\n", 0o600)
			if client, err := r.dial("root", ssh.PublicKeys(forger{key, forge})); err == nil {
				client.Close()
				t.Error("came in")
			}
			if strings.Contains(r.log.String(), "Accepted") {
				t.Error("accepted")
			}
		})
	}
}

// forger changes signatures that a key has made.
type forger struct {
	ssh.Signer
	forge func(*ssh.Signature)
}

func (f forger) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	s, err := f.Signer.Sign(random, data)
	if err == nil {
		f.forge(s)
	}
	return s, err
}
