package authkeys

import (
	"crypto/ed25519"
	"crypto/rand"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// authority signs certificates.
type authority struct{ ssh.Signer }

func newAuthority(t *testing.T) authority {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return authority{signer}
}

func (a authority) line() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(a.PublicKey())))
}

// certify makes a certificate for root with all rights, which change may alter.
func (a authority) certify(t *testing.T, change func(*ssh.Certificate)) *ssh.Certificate {
	t.Helper()
	key, _ := newKey(t)
	cert := &ssh.Certificate{
		Key: key, CertType: ssh.UserCert, KeyId: "id", ValidPrincipals: []string{"root"}, ValidBefore: ssh.CertTimeInfinity,
		Permissions: ssh.Permissions{
			CriticalOptions: map[string]string{},
			Extensions: map[string]string{"permit-pty": "", "permit-port-forwarding": "", "permit-agent-forwarding": "",
				"permit-X11-forwarding": "", "permit-user-rc": "", "of-tomorrow@example.com": "x"},
		},
	}
	if change != nil {
		change(cert)
	}
	if err := cert.SignCert(rand.Reader, a); err != nil {
		t.Fatal(err)
	}
	return cert
}

func critical(name, value string) func(*ssh.Certificate) {
	return func(c *ssh.Certificate) { c.CriticalOptions[name] = value }
}

func without(extension string) func(*ssh.Certificate) {
	return func(c *ssh.Certificate) { delete(c.Extensions, extension) }
}

func TestCertificateByAuthorityLine(t *testing.T) {
	ca := newAuthority(t)
	hour := time.Hour
	now := uint64(time.Now().Unix())
	tests := []struct {
		name    string
		options string // before the authority's key, besides cert-authority
		change  func(*ssh.Certificate)
		refusal string // "" for none
		want    Options
	}{
		{"all rights", "", nil, "", Options{}},
		{"line restricts", ",restrict,pty", nil, "", Options{NoPortForwarding: true, NoAgentForwarding: true, NoX11: true, NoUserRC: true}},
		{"no terminal", "", without("permit-pty"), "", Options{NoPTY: true}},
		{"no forwarding", "", without("permit-port-forwarding"), "", Options{NoPortForwarding: true}},
		{"no agent", "", without("permit-agent-forwarding"), "", Options{NoAgentForwarding: true}},
		{"no rc file", "", without("permit-user-rc"), "", Options{NoUserRC: true}},
		{"command", "", critical("force-command", "id"), "", Options{Command: "id"}},
		{"empty command", "", critical("force-command", ""), "", Options{Command: ":"}},
		{"same command", `,command="id"`, critical("force-command", "id"), "", Options{Command: "id"}},
		{"other command", `,command="ls"`, critical("force-command", "id"), "forced command options do not match", Options{}},
		{"touch waived by the certificate", "", func(c *ssh.Certificate) { c.Extensions["no-touch-required"] = "" }, "", Options{}},
		{"touch waived by both", ",no-touch-required", func(c *ssh.Certificate) { c.Extensions["no-touch-required"] = "" }, "", Options{NoTouchRequired: true}},
		{"from here", "", critical("source-address", "10.0.0.0/8,192.0.2.1"), "", Options{Source: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32")}}},
		{"from there", "", critical("source-address", "10.0.0.0/8"), "not for use from 192.0.2.1", Options{}},
		{"address nonsense", "", critical("source-address", "*.example.com"), "Invalid certificate options", Options{}},
		{"address with bits beyond", "", critical("source-address", "192.0.2.1/24"), "Invalid certificate options", Options{}},
		{"line's from", `,from="10.0.0.0/8"`, nil, "not from a permitted host", Options{}},
		{"verification", "", critical("verify-required", ""), "cannot check that a security key verified", Options{}},
		{"unknown critical option", "", critical("of-tomorrow@example.com", ""), "unknown critical option", Options{}},
		{"somebody else's", "", func(c *ssh.Certificate) { c.ValidPrincipals = []string{"alice", "roo*"} }, "not a listed principal", Options{}},
		{"nobody's", "", func(c *ssh.Certificate) { c.ValidPrincipals = nil }, "lacks principal list", Options{}},
		{"principals", `,principals="ops,alice"`, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"alice"} }, "", Options{}},
		{"no principals", `,principals=""`, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"", "root"} }, "not a listed principal", Options{}},
		{"other principals", `,principals="ops"`, nil, "not a listed principal", Options{}},
		{"a host's", "", func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, "not a user certificate", Options{}},
		{"expired", "", func(c *ssh.Certificate) { c.ValidBefore = now - uint64(hour.Seconds()) }, "expired", Options{}},
		{"of tomorrow", "", func(c *ssh.Certificate) { c.ValidAfter = now + uint64(hour.Seconds()) }, "not yet valid", Options{}},
		{"after all time", "", func(c *ssh.Certificate) { c.ValidAfter = 1 << 63 }, "not yet valid", Options{}},
	}
	for _, tt := range tests {
		entries, problems := Parse(strings.NewReader("cert-authority" + tt.options + " " + ca.line()))
		if len(problems) > 0 {
			t.Fatal(tt.name, problems)
		}
		entry, err := Authorize(entries, ca.certify(t, tt.change), here())
		checkRefusal(t, tt.name, err, tt.refusal)
		if err == nil && !reflect.DeepEqual(entry.Options, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, entry.Options, tt.want)
		}
	}
}

func checkRefusal(t *testing.T, name string, err error, refusal string) {
	t.Helper()
	switch {
	case refusal == "" && err != nil:
		t.Errorf("%s: %v", name, err)
	case refusal != "" && (err == nil || !strings.Contains(err.Error(), refusal)):
		t.Errorf("%s: %v, want %q", name, err, refusal)
	}
}

func TestCertificateNeedsTheAuthoritysSignature(t *testing.T) {
	ca := newAuthority(t)
	entries, _ := Parse(strings.NewReader("cert-authority " + ca.line() + "\n" + newAuthority(t).line()))
	forged := ca.certify(t, nil)
	forged.ValidPrincipals = []string{"root", "alice"}
	_, err := Authorize(entries, forged, here())
	checkRefusal(t, "changed after signing", err, "signature")
	_, err = Authorize(entries, newAuthority(t).certify(t, nil), here())
	checkRefusal(t, "unknown authority", err, ErrNoKey.Error())
	plainLine, _ := Parse(strings.NewReader(ca.line()))
	_, err = Authorize(plainLine, ca.certify(t, nil), here())
	checkRefusal(t, "authority's key as a plain one", err, ErrNoKey.Error())
}

func TestCertify(t *testing.T) {
	ca := newAuthority(t)
	alice := func(c *ssh.Certificate) { c.ValidPrincipals = []string{"alice", "ops"} }
	tests := []struct {
		name       string
		principals string // the file, "-" for none
		change     func(*ssh.Certificate)
		refusal    string
		command    string
	}{
		{"the user", "-", nil, "", ""},
		{"somebody else", "-", alice, "not a listed principal", ""},
		{"listed", "# who may\n\nbob\nalice # of ops\n", alice, "", ""},
		{"not listed", "bob\n", alice, "does not contain an authorized principal", ""},
		{"the user is not enough", "bob\n", nil, "does not contain an authorized principal", ""},
		{"empty file", "", nil, "does not contain an authorized principal", ""},
		{"options", "command=\"echo a b\",no-pty \t alice", alice, "", "echo a b"},
		{"from there", `from="10.0.0.0/8" alice`, alice, "principals options", ""},
		{"a later line", "bob\ncommand=\"id\" ops", alice, "", "id"},
		{"the first line decides", "from=\"10.0.0.0/8\" alice\nalice\nops", alice, "principals options", ""},
		{"commands differ", `command="ls" root`, critical("force-command", "id"), "do not match", ""},
	}
	for _, tt := range tests {
		principals, problems := ParsePrincipals(strings.NewReader(tt.principals))
		if len(problems) > 0 {
			t.Fatal(tt.name, problems)
		}
		if tt.principals == "-" {
			principals = nil
		}
		options, err := Certify(ca.certify(t, tt.change), principals, here())
		checkRefusal(t, tt.name, err, tt.refusal)
		if options.Command != tt.command {
			t.Errorf("%s: command %q, want %q", tt.name, options.Command, tt.command)
		}
	}
}

func TestMerge(t *testing.T) {
	soon, late := time.Unix(1000, 0), time.Unix(2000, 0)
	a := Options{Expiry: late, NoPTY: true, PermitOpen: []string{"a:1", "b:1"}, Environment: []string{"A=1"}, NoTouchRequired: true}
	b := Options{Expiry: soon, NoUserRC: true, PermitOpen: []string{"b:1", "c:1"}, Environment: []string{"B=1"}, Command: "id", PermitListen: []string{"*:1"}}
	want := Options{Expiry: soon, NoPTY: true, NoUserRC: true, PermitOpen: []string{"b:1"}, PermitListen: []string{"*:1"}, Environment: []string{"A=1"}, Command: "id"}
	if got, err := Merge(a, b); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	b.PermitOpen = []string{"c:1"}
	if got, err := Merge(a, b); err != nil || got.PermitOpen == nil || len(got.PermitOpen) != 0 {
		t.Errorf("nothing in common: %#v, %v", got.PermitOpen, err)
	}
}

func TestParsePrincipalsRefusesALine(t *testing.T) {
	for line, problem := range map[string]string{
		"no-such-option alice":          "unknown key option",
		`command="id alice`:             "quote is not closed",
		"cert-authority alice":          "are for keys",
		`principals="bob" alice`:        "are for keys",
		"pty and more alice":            "text between",
		strings.Repeat("x", MaxLine+1):  "longer than",
		"verify-required alice":         "cannot check",
		`from="192.0.2.1/24",pty alice`: "inconsistent mask",
	} {
		principals, problems := ParsePrincipals(strings.NewReader(line + "\nbob\n"))
		if len(problems) != 1 || !strings.Contains(problems[0].Error(), problem) {
			t.Errorf("%.40s: %v, want %q", line, problems, problem)
		}
		if len(principals) != 1 || principals[0].Name != "bob" || principals[0].Line != 2 {
			t.Errorf("%.40s: the good line is lost: %+v", line, principals)
		}
	}
}

func TestKeyLists(t *testing.T) {
	ca := newAuthority(t)
	key, text := newKey(t)
	cert := ca.certify(t, func(c *ssh.Certificate) { c.Key = key })
	certText := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert)))
	print := ssh.FingerprintSHA256(key)
	tests := []struct {
		name, list     string
		key, cert, any bool // whether Has finds the key and the certificate, and Revokes the certificate
		refusal        string
	}{
		{"empty", "# none\n\n", false, false, false, ""},
		{"key", text + " a comment\n", true, true, true, ""},
		{"certificate", certText, true, true, true, ""},
		{"fingerprint", print + "\r\n", true, true, true, ""},
		{"ssh-keygen -l", "256 " + print + " me@here (ED25519)", true, true, true, ""},
		{"authority", ca.line(), false, false, true, ""},
		{"fingerprint with a typo", print[:len(print)-1], false, false, false, "line 1: "},
		{"MD5", "MD5:" + ssh.FingerprintLegacyMD5(key), false, false, false, "line 1: "},
		{"nonsense", text + "\nnonsense\n", true, true, true, "line 2: "},
		{"KRL", krlMagic + text, false, false, false, "KRL"},
		{"huge", strings.Repeat("#\n", MaxList/2) + text, false, false, false, "larger than"},
	}
	for _, tt := range tests {
		l, err := ParseRevoked(strings.NewReader(tt.list))
		checkRefusal(t, tt.name, err, tt.refusal)
		if l.Has(key) != tt.key || l.Has(cert) != tt.cert || l.Revokes(cert) != tt.any {
			t.Errorf("%s: key %v, certificate %v, with its authority %v", tt.name, l.Has(key), l.Has(cert), l.Revokes(cert))
		}
	}
	for list, refusal := range map[string]string{text: "", print: "no key", certText: "a certificate"} {
		l, err := ParseAuthorities(strings.NewReader(list))
		checkRefusal(t, list, err, refusal)
		if l.Has(key) != (refusal == "") {
			t.Errorf("trusted %v: %.30s", l.Has(key), list)
		}
	}
}
