package sshd

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// newAuthority makes a key that signs certificates.
func (r *rig) newAuthority(t *testing.T, name string, args ...string) {
	t.Helper()
	if len(args) == 0 {
		args = []string{"-t", "ed25519"}
	}
	keygen(t, append(args, "-q", "-N", "", "-C", name, "-f", r.file(name))...)
}

// certify makes id-cert.pub, which OpenSSH's client offers along with id.
func (r *rig) certify(t *testing.T, authority string, args ...string) {
	t.Helper()
	write(t, r.file("id.pub"), publicKey(t, r.file("id")), 0o600)
	keygen(t, append(append([]string{"-q", "-s", r.file(authority), "-I", "an id", "-z", "7"}, args...), r.file("id.pub"))...)
}

func (r *rig) public(t *testing.T, name string) string {
	return strings.TrimSpace(publicKey(t, r.file(name)))
}

// TestCertificatesBesideSshd puts certificates that ssh-keygen made before
// OpenSSH's server and ours.
func TestCertificatesBesideSshd(t *testing.T) {
	b := startBoth(t, "PermitRootLogin yes\nTrustedUserCAKeys DIR/ca.pub\nRevokedKeys DIR/revoked\nAuthorizedKeysFile DIR/authorized_keys")
	b.newAuthority(t, "ca")
	b.newAuthority(t, "other")
	for name, c := range map[string]struct {
		certify []string
		keys    string // authorized_keys; "" without, CA for the other authority's key
		revoked string
		args    []string
		want    string // "" for refused
	}{
		"valid":               {[]string{"-n", "root,alice"}, "", "", nil, "in\n"},
		"valid today":         {[]string{"-n", "root", "-V", "-1d:+1d"}, "", "", nil, "in\n"},
		"expired":             {[]string{"-n", "root", "-V", "20200101:20200102"}, "", "", nil, ""},
		"of tomorrow":         {[]string{"-n", "root", "-V", "+1d:+2d"}, "", "", nil, ""},
		"somebody else's":     {[]string{"-n", "alice"}, "", "", nil, ""},
		"nobody's":            {nil, "", "", nil, ""},
		"a host's":            {[]string{"-h", "-n", "root"}, "", "", nil, ""},
		"from here":           {[]string{"-n", "root", "-O", "source-address=192.0.2.0/24,127.0.0.0/8"}, "", "", nil, "in\n"},
		"from there":          {[]string{"-n", "root", "-O", "source-address=192.0.2.0/24"}, "", "", nil, ""},
		"forced":              {[]string{"-n", "root", "-O", "force-command=echo $SSH_ORIGINAL_COMMAND forced"}, "", "", nil, "echo in forced\n"},
		"unknown critical":    {[]string{"-n", "root", "-O", "critical:of-tomorrow@example.com=x"}, "", "", nil, ""},
		"unknown extension":   {[]string{"-n", "root", "-O", "extension:of-tomorrow@example.com=x"}, "", "", nil, "in\n"},
		"no terminal":         {[]string{"-n", "root", "-O", "no-pty"}, "", "", []string{"-tt"}, ""},
		"nothing at all":      {[]string{"-n", "root", "-O", "clear"}, "", "", nil, "in\n"},
		"revoked":             {[]string{"-n", "root"}, "", "KEY", nil, ""},
		"authority revoked":   {[]string{"-n", "root"}, "", "CA", nil, ""},
		"another revoked":     {[]string{"-n", "root"}, "", "OTHER", nil, "in\n"},
		"by line":             {[]string{"-n", "root"}, "cert-authority OTHER", "", nil, "in\n"},
		"by line's names":     {[]string{"-n", "alice"}, `cert-authority,principals="bob,alice" OTHER`, "", nil, "in\n"},
		"not by line's names": {[]string{"-n", "root"}, `cert-authority,principals="bob" OTHER`, "", nil, ""},
		"line without a word": {[]string{"-n", "root"}, "OTHER", "", nil, ""},
		"line forces":         {[]string{"-n", "root"}, `cert-authority,command="echo line" OTHER`, "", nil, "line\n"},
		"both force":          {[]string{"-n", "root", "-O", "force-command=echo cert"}, `cert-authority,command="echo line" OTHER`, "", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ca := "ca"
			if c.keys != "" {
				ca = "other"
			}
			b.certify(t, ca, c.certify...)
			fill := strings.NewReplacer("OTHER", b.public(t, "other"), "CA", b.public(t, "ca"), "KEY", b.public(t, "id"))
			write(t, b.file("authorized_keys"), fill.Replace(c.keys)+"\n", 0o600)
			write(t, b.file("revoked"), fill.Replace(c.revoked)+"\n", 0o600)
			theirs, ours := b.ask(t, append(c.args, "echo in")...)
			if theirs.out != ours.out || theirs.status != ours.status || ours.out != c.want {
				t.Errorf("theirs %+v, ours %+v, want %q", theirs, ours, c.want)
			}
			if c.want != "" {
				if theirs, ours := b.said(t, "Accepted publickey"); theirs != ours || !strings.Contains(ours, " ID an id (serial 7) CA ED25519 SHA256:") {
					t.Errorf("log:\n%s\n%s", theirs, ours)
				}
			}
		})
	}
}

// TestPrincipalsBesideSshd is about whom a certificate may name.
func TestPrincipalsBesideSshd(t *testing.T) {
	const program = "#!/bin/sh\nprintf '%s\\n' \"$@\" >DIR/asked-$(id -un)\n"
	for name, c := range map[string]struct {
		config  string
		files   map[string]string
		certify []string
		want    string
	}{
		"listed":        {"AuthorizedPrincipalsFile DIR/principals_%u", map[string]string{"principals_root": "# who\nbob\nalice # of ops\n"}, []string{"-n", "alice"}, "in\n"},
		"not listed":    {"AuthorizedPrincipalsFile DIR/principals_%u", map[string]string{"principals_root": "bob\n"}, []string{"-n", "root"}, ""},
		"no file":       {"AuthorizedPrincipalsFile DIR/principals_%u", nil, []string{"-n", "root"}, ""},
		"file of none":  {"AuthorizedPrincipalsFile none", nil, []string{"-n", "root"}, "in\n"},
		"with options":  {"AuthorizedPrincipalsFile DIR/p", map[string]string{"p": `command="echo forced a  b" alice`}, []string{"-n", "alice"}, "forced a b\n"},
		"from there":    {"AuthorizedPrincipalsFile DIR/p", map[string]string{"p": `from="192.0.2.1" alice`}, []string{"-n", "alice"}, ""},
		"bad options":   {"AuthorizedPrincipalsFile DIR/p", map[string]string{"p": `no-such-thing alice`}, []string{"-n", "alice"}, ""},
		"writable file": {"AuthorizedPrincipalsFile DIR/writable", map[string]string{"writable": "alice\n"}, []string{"-n", "alice"}, ""},
		"program": {"AuthorizedPrincipalsCommand DIR/ask %u %U %i %s %t %T %f %F %h %%\nAuthorizedPrincipalsCommandUser nobody",
			map[string]string{"ask": program + "echo alice\n"}, []string{"-n", "alice"}, "in\n"},
		"program without arguments": {"AuthorizedPrincipalsCommand DIR/ask\nAuthorizedPrincipalsCommandUser nobody",
			map[string]string{"ask": program + "echo alice\n"}, []string{"-n", "alice"}, "in\n"},
		"program fails": {"AuthorizedPrincipalsCommand DIR/ask\nAuthorizedPrincipalsCommandUser nobody",
			map[string]string{"ask": program + "echo alice; exit 1\n"}, []string{"-n", "alice"}, ""},
		"keys by program": {"AuthorizedKeysCommand DIR/ask %u %t %k %f\nAuthorizedKeysCommandUser root",
			map[string]string{"ask": program + "cat DIR/id.pub\n"}, nil, "in\n"},
		"keys by program without arguments": {"AuthorizedKeysCommand DIR/ask\nAuthorizedKeysCommandUser nobody",
			map[string]string{"ask": program + "echo 'command=\"echo forced\"' $(cat DIR/id.pub)\n"}, nil, "forced\n"},
		"keys by a program that others may write": {"AuthorizedKeysCommand DIR/writable\nAuthorizedKeysCommandUser nobody",
			map[string]string{"writable": program + "cat DIR/id.pub\n"}, nil, ""},
		"keys by a program that fails": {"AuthorizedKeysCommand DIR/ask\nAuthorizedKeysCommandUser nobody",
			map[string]string{"ask": program + "cat DIR/id.pub; exit 3\n"}, nil, ""},
		"no such program": {"AuthorizedKeysCommand DIR/none\nAuthorizedKeysCommandUser nobody", nil, nil, ""},
		"forced only":     {"PermitRootLogin forced-commands-only", nil, []string{"-n", "root"}, ""},
		"forced only, and is": {"PermitRootLogin forced-commands-only", nil,
			[]string{"-n", "root", "-O", "force-command=echo forced"}, "forced\n"},
		"weak authority":    {"CASignatureAlgorithms rsa-sha2-512,ecdsa-sha2-nistp256", nil, []string{"-n", "root"}, ""},
		"no certificates":   {"PubkeyAcceptedAlgorithms ssh-ed25519", nil, []string{"-n", "root"}, ""},
		"certificates only": {"PubkeyAcceptedAlgorithms ssh-ed25519-cert-v01@openssh.com", nil, []string{"-n", "root"}, "in\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBoth(t, c.config+"\nTrustedUserCAKeys DIR/ca.pub\nAuthorizedKeysFile none")
			b.newAuthority(t, "ca")
			write(t, b.file("id.pub"), publicKey(t, b.file("id")), 0o644)
			if c.certify != nil {
				b.certify(t, "ca", c.certify...)
			}
			for name, text := range c.files {
				mode := os.FileMode(0o755)
				if name == "writable" {
					mode = 0o777
				}
				write(t, b.file(name), strings.ReplaceAll(text, "DIR", b.dir), mode)
			}
			os.Chmod(b.dir, 0o755)
			asked := func() string { // and ask anew
				one, _ := os.ReadFile(b.file("asked-root"))
				other, _ := os.ReadFile(b.file("asked-nobody"))
				write(t, b.file("asked-root"), "", 0o666)
				write(t, b.file("asked-nobody"), "", 0o666)
				return string(one) + "|" + string(other)
			}
			asked()
			theirs := b.askTheirs(t, "echo in")
			toldThem := asked()
			ours := b.askOurs(t, "echo in")
			if theirs != ours || ours.out != c.want {
				t.Errorf("theirs %+v, ours %+v, want %q", theirs, ours, c.want)
			}
			if toldUs := asked(); toldThem != toldUs {
				t.Errorf("arguments: %q, ours %q", toldThem, toldUs)
			}
		})
	}
}

// TestHostCertificate has OpenSSH's client trust an authority instead of a key.
func TestHostCertificate(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		r := start(t, func(r *rig, c *Config) {
			r.newAuthority(t, "ca")
			os.Remove(r.file("host_key"))
			keygen(t, "-q", "-t", kind, "-N", "", "-f", r.file("host_key"))
			keygen(t, "-q", "-s", r.file("ca"), "-I", "host", "-h", "-n", "the-server", r.file("host_key.pub"))
			r.config.server.HostCertificates = []string{r.file("host_key-cert.pub"), r.file("ca.pub"), r.file("none")}
			write(t, r.file("known_hosts"), "@cert-authority the-server "+publicKey(t, r.file("ca")), 0o600)
		})
		if out, stderr, _ := r.ssh(t, "echo in"); out != "in\n" {
			t.Errorf("%s: %q %s", kind, out, stderr)
		}
		r.logs(t, "Could not load host certificate: %s", r.file("ca.pub"))
		r.logs(t, "Could not load host certificate: %s", r.file("none"))
	}
	r := start(t, func(r *rig, c *Config) {
		r.newAuthority(t, "ca")
		newKey(t, r.file("stranger"))
		write(t, r.file("stranger.pub"), publicKey(t, r.file("stranger")), 0o600)
		keygen(t, "-q", "-s", r.file("ca"), "-I", "host", "-h", r.file("stranger.pub"))
		r.config.server.HostCertificates = []string{r.file("stranger-cert.pub")}
	})
	r.logs(t, "No matching private key for certificate: %s", r.file("stranger-cert.pub"))
	if out, _, _ := r.ssh(t, "echo in"); out != "in\n" {
		t.Errorf("without a certificate: %q", out)
	}
}

func TestRSACertificates(t *testing.T) {
	r := start(t, func(r *rig, c *Config) {
		r.newAuthority(t, "ca", "-t", "rsa")
		r.config.settings.TrustedUserCAKeys = r.file("ca.pub")
		r.config.settings.RequiredRSASize = 2048
		os.Remove(r.file("id"))
		keygen(t, "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", r.file("id"))
	})
	r.certify(t, "ca", "-n", "root")
	if out, _, _ := r.ssh(t, "echo in"); out != "" {
		t.Errorf("1024 bits: %q", out)
	}
	r.logs(t, "RSA key of 1024 bits: RequiredRSASize is 2048")
	os.Remove(r.file("id"))
	keygen(t, "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", r.file("id"))
	r.certify(t, "ca", "-n", "root")
	if out, stderr, _ := r.ssh(t, "echo in"); out != "in\n" {
		t.Errorf("2048 bits: %q %s", out, stderr)
	}
	r.logs(t, "RSA-CERT SHA256:")
	r.certify(t, "ca", "-n", "root", "-t", "ssh-rsa") // signed with SHA-1
	if out, _, _ := r.ssh(t, "echo in"); out != "" {
		t.Errorf("signed with SHA-1: %q", out)
	}
	r.logs(t, "not in CASignatureAlgorithms")
}

func TestLabel(t *testing.T) {
	r := start(t, nil)
	key := newKey(t, "").PublicKey()
	c := connection{server: r.inForce.Load()}
	if got := c.label(key); got != "ED25519 "+ssh.FingerprintSHA256(key) {
		t.Errorf("label %q", got)
	}
	r.config.server.FingerprintHash = "md5"
	c.server.static.FingerprintHash = "md5"
	if got := c.label(key); got != "ED25519 MD5:"+ssh.FingerprintLegacyMD5(key) {
		t.Errorf("label %q", got)
	}
	cert := &ssh.Certificate{Key: key, KeyId: "an id\nAccepted\x1b[2J", Serial: 3, SignatureKey: key}
	if got := c.label(cert); !strings.HasSuffix(got, ` ID an id\nAccepted\x1b[2J (serial 3) CA ED25519 `+c.fingerprint(key)) || !strings.HasPrefix(got, "ED25519-CERT MD5:") {
		t.Errorf("label %q", got)
	}
	for kind, want := range map[string]string{
		ssh.KeyAlgoRSA: "RSA", ssh.KeyAlgoECDSA256: "ECDSA", ssh.KeyAlgoSKED25519: "ED25519-SK", ssh.KeyAlgoSKECDSA256: "ECDSA-SK",
		ssh.CertAlgoRSAv01: "RSA-CERT", ssh.CertAlgoSKECDSA256v01: "ECDSA-SK-CERT", ssh.CertAlgoSKED25519v01: "ED25519-SK-CERT",
	} {
		if got := kindOf(typed(kind)); got != want {
			t.Errorf("%s: %s, want %s", kind, got, want)
		}
	}
}

// typed is a key of which only the type is known.
type typed string

func (k typed) Type() string                        { return string(k) }
func (k typed) Marshal() []byte                     { return nil }
func (k typed) Verify([]byte, *ssh.Signature) error { return nil }
