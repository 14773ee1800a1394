package sshd

import (
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// TestHostKeysAreLearnt: a client that knows one of our keys comes to know the
// others, each of them proven.
func TestHostKeysAreLearnt(t *testing.T) {
	kinds := []string{"ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"}
	for negotiated, known := range map[string]string{"ssh-ed25519": "ssh-ed25519", "rsa-sha2-256": "ssh-rsa", "rsa-sha2-512": "ssh-rsa"} {
		r := start(t, func(r *rig, c *Config) {
			r.config.server.HostKeys = nil
			c.HostKeyDir = r.file("keys") // all three are made
		})
		eventually(t, "all host keys", func() bool { return len(r.inForce.Load().keys.all()) == len(kinds) })
		for _, key := range r.inForce.Load().keys.all() {
			if key.PublicKey().Type() == known {
				write(t, r.file("known_hosts"), "the-server "+line("", key), 0o600)
			}
		}
		wait := "until [ $(wc -l <" + r.file("known_hosts") + ") -ge 3 ]; do sleep 0.05; done"
		_, stderr, status := r.ssh(t, "-v", "-o", "UpdateHostKeys=yes", "-o", "HostKeyAlgorithms="+negotiated+",rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256,ssh-ed25519", wait)
		if status != 0 {
			t.Fatalf("%s: status %d, %s", negotiated, status, stderr)
		}
		text, err := os.ReadFile(r.file("known_hosts"))
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range kinds {
			if !strings.Contains(string(text), "the-server "+kind+" ") {
				t.Errorf("%s: known hosts are\n%s", negotiated, text)
			}
		}
	}
}

// A key is proven with the algorithm of the key exchange (OpenSSH PROTOCOL,
// section 2.5), also where that was one with the key's certificate.
func TestProofAfterACertificate(t *testing.T) {
	r := start(t, func(r *rig, c *Config) {
		r.newAuthority(t, "ca")
		os.Remove(r.file("host_key"))
		keygen(t, "-q", "-t", "rsa", "-N", "", "-f", r.file("host_key"))
		keygen(t, "-q", "-s", r.file("ca"), "-I", "host", "-h", r.file("host_key.pub"))
		r.config.server.HostCertificates = []string{r.file("host_key-cert.pub")}
	})
	for negotiated, want := range map[string]string{
		ssh.CertAlgoRSASHA256v01: ssh.KeyAlgoRSASHA256, ssh.CertAlgoRSASHA512v01: ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256: ssh.KeyAlgoRSASHA256,
	} {
		client, err := ssh.Dial("tcp", r.Addrs()[0].String(), &ssh.ClientConfig{
			User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(r.key)},
			HostKeyAlgorithms: []string{negotiated}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		key := r.inForce.Load().keys.plain()[0].PublicKey()
		ok, reply, err := client.SendRequest(hostKeysProve, true, ssh.Marshal(struct{ Key []byte }{key.Marshal()}))
		var proof struct{ Signature []byte }
		var signature ssh.Signature
		if !ok || err != nil || ssh.Unmarshal(reply, &proof) != nil || ssh.Unmarshal(proof.Signature, &signature) != nil {
			t.Fatalf("%s: %v, %v", negotiated, ok, err)
		}
		if signature.Format != want {
			t.Errorf("%s: proven with %s, want %s", negotiated, signature.Format, want)
		}
	}
}

func TestHostKeysThatAreNotProven(t *testing.T) {
	r := start(t, nil)
	client := r.connect(t)
	ours := ssh.Marshal(struct{ Key []byte }{r.inForce.Load().keys.all()[0].PublicKey().Marshal()})
	for name, payload := range map[string][]byte{
		"another's": ssh.Marshal(struct{ Key []byte }{newKey(t, "").PublicKey().Marshal()}),
		"too many":  slices.Concat(ours, ours),
		"malformed": {0, 0, 0, 9, 1},
	} {
		if ok, reply, err := client.SendRequest(hostKeysProve, true, payload); ok || len(reply) > 0 || err != nil {
			t.Errorf("%s: %v, %d bytes, %v", name, ok, len(reply), err)
		}
	}
	if ok, reply, err := client.SendRequest(hostKeysProve, true, ours); !ok || len(reply) == 0 || err != nil {
		t.Errorf("ours: %v, %d bytes, %v", ok, len(reply), err)
	}
}

func TestNoMoreSessions(t *testing.T) {
	audit := &journal{}
	r := start(t, func(_ *rig, c *Config) { c.Audit = NewAudit(audit) })
	client := r.connect(t)
	first, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := client.SendRequest(noMoreSessions, true, nil); !ok || err != nil {
		t.Errorf("the request: %v, %v", ok, err)
	}
	if out, err := first.Output("echo first"); string(out) != "first\n" {
		t.Errorf("the session from before: %q, %v", out, err)
	}
	if s, err := client.NewSession(); err == nil {
		s.Close()
		t.Error("a session was opened after no-more-sessions")
	}
	client.Wait()
	r.logs(t, "Disconnecting user root 127.0.0.1 port ")
	r.logs(t, ": Possible attack: attempt to open a session after additional sessions disabled")
	eventually(t, "the end in the audit", func() bool { return strings.Contains(audit.String(), endedSuspicious) })
}
