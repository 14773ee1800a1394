package authkeys

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// newKey returns a public key and its "type base64" text.
func newKey(t testing.TB) (ssh.PublicKey, string) {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// newCertificate returns the text of a certificate for a fresh key.
func newCertificate(t testing.TB) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.UserCert}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert)))
}

func TestParseReadsAFile(t *testing.T) {
	key, text := newKey(t)
	file := "# keys of the image's owner\r\n\n  \t" + text + "  Ada Lovelace, laptop \r\n" +
		`command="echo \"a b\", c",no-pty` + "\t" + text + "\n" +
		text // no end of line
	entries, problems := Parse(strings.NewReader(file))
	if len(problems) != 0 {
		t.Fatal(problems)
	}
	want := []Entry{
		{Key: key, Comment: "Ada Lovelace, laptop", Line: 3},
		{Key: key, Options: Options{Command: `echo "a b", c`, NoPTY: true}, Line: 4},
		{Key: key, Line: 5},
	}
	if !reflect.DeepEqual(entries, want) {
		t.Errorf("got %+v", entries)
	}
}

func TestParseOptions(t *testing.T) {
	all := Options{NoPTY: true, NoPortForwarding: true, NoAgentForwarding: true, NoX11: true, NoUserRC: true}
	tests := []struct {
		text string
		want Options
	}{
		{"no-pty,no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-user-rc", all},
		{"restrict", all},
		{"RESTRICT,Pty", Options{NoPortForwarding: true, NoAgentForwarding: true, NoX11: true, NoUserRC: true}},
		{"pty,restrict,", all},
		{"no-touch-required", Options{NoTouchRequired: true}},
		{"no-touch-required,touch-required,no-verify-required", Options{}},
		{`cert-authority,principals="root,ims"`, Options{CertAuthority: true, Principals: []string{"root", "ims"}}},
		{`principals=""`, Options{Principals: []string{}}},
		{`principals="root,,ims"`, Options{Principals: []string{"root"}}},
		{`from="192.0.2.0/24,!192.0.2.9"`, Options{From: []string{"192.0.2.0/24", "!192.0.2.9"}}},
		{`expiry-time="20300102Z"`, Options{Expiry: time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)}},
		{`expiry-time="20300102030405UTC",expiry-time="203001020304Z"`, Options{Expiry: time.Date(2030, 1, 2, 3, 4, 0, 0, time.UTC)}},
		{`expiry-time="20300102"`, Options{Expiry: time.Date(2030, 1, 2, 0, 0, 0, 0, time.Local)}},
		{`environment="A=1",environment="B=x=y",environment="A=2"`, Options{Environment: []string{"A=1", "B=x=y"}}},
		{`permitopen="[::1]:80",permitopen="host:*"`, Options{PermitOpen: []string{"[::1]:80", "host:*"}}},
		{`permitlisten="8080",permitlisten="localhost:1"`, Options{PermitListen: []string{"*:8080", "localhost:1"}}},
		{`command=""`, Options{Command: ":"}},
		{`tunnel="0"`, Options{}},
		{`command="C:\dir"`, Options{Command: `C:\dir`}},
	}
	for _, tt := range tests {
		got, err := parseOptions(tt.text)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("parseOptions(%s) = %+v, %v", tt.text, got, err)
		}
	}
}

// securityKey is one's public half.
const securityKey = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fAAAABHNzaDo="

// Only of security keys can it be asked that they verify their users.
func TestVerifyRequiredOfOtherKeys(t *testing.T) {
	_, text := newKey(t)
	entries, problems := Parse(strings.NewReader("verify-required,command=\"id\" " + text))
	if len(entries) != 1 || len(problems) > 0 || !reflect.DeepEqual(entries[0].Options, Options{Command: "id"}) {
		t.Errorf("%+v, %v", entries, problems)
	}
}

func TestParseRefusesALine(t *testing.T) {
	_, text := newKey(t)
	data := strings.Fields(text)[1]
	tests := []struct{ line, problem string }{
		{"no-such-option " + text, "unknown key option"},
		{"no-restrict " + text, "unknown key option"},
		{"ptyx " + text, "unknown key option"},
		{"pty,,pty " + text, "unknown key option"},
		{"command " + text, "unknown key option"},
		{`pty="yes" ` + text, "unknown key option"},
		{"command=id " + text, "missing start quote"},
		{`command="id ` + text, "quote is not closed"},
		{`command="C:\dir\" ` + text, "quote is not closed"},
		{`command="id"pty ` + text, "text after the closing quote"},
		{`command="a",command="b" ` + text, "only once"},
		{`from="10.0.0.1",from="10.0.0.2" ` + text, "only once"},
		{`from="10.0.0.1/8" ` + text, "inconsistent mask"},
		{`expiry-time="tomorrow" ` + text, "is not a time"},
		{`expiry-time="20301301" ` + text, "is not a time"},
		{`environment="LD PRELOAD=x" ` + text, "not NAME=value"},
		{`environment="NAME" ` + text, "not NAME=value"},
		{`permitopen="host" ` + text, "missing port"},
		{`permitopen="host:0" ` + text, "invalid permission port"},
		{`permitopen=":80" ` + text, "invalid permission hostname"},
		{"verify-required " + securityKey, "cannot check"},
		{"cert-authority,verify-required " + text, "cannot check"},
		{"restrict", "no key"},
		{"ssh-ed25519", "no key"},
		{"ssh-ed25519 not+base64!", "illegal base64"},
		{"ssh-ed25519 AAAA", "ssh-ed25519 key"},
		{"ssh-rsa " + data, "a key of type ssh-ed25519"},
		{newCertificate(t), "a certificate"},
		{text + " " + strings.Repeat("x", MaxLine), "longer than"},
	}
	for _, tt := range tests {
		entries, problems := Parse(strings.NewReader("\n" + tt.line + "\n" + text + " good\n"))
		if len(problems) != 1 || !strings.HasPrefix(problems[0].Error(), "line 2: ") || !strings.Contains(problems[0].Error(), tt.problem) {
			t.Errorf("%.60s: problems %v, want one of line 2 with %q", tt.line, problems, tt.problem)
		}
		if len(entries) != 1 || entries[0].Comment != "good" {
			t.Errorf("%.60s: the good line is lost: %+v", tt.line, entries)
		}
	}
}

func TestParseIsBounded(t *testing.T) {
	_, text := newKey(t)
	comments := strings.Repeat("#"+strings.Repeat("x", 1022)+"\n", MaxFile/1024-1)
	file := comments + text + "\n" + strings.Repeat(text+"\n", 100)
	entries, problems := Parse(strings.NewReader(file))
	if len(entries) == 0 || len(entries) > 20 {
		t.Errorf("%d entries", len(entries))
	}
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), "larger than") {
		t.Errorf("problems: %v", problems)
	}
}

func TestAuthorityLinesAreNoPlainKeys(t *testing.T) {
	key, text := newKey(t)
	_, otherText := newKey(t)
	entries, problems := Parse(strings.NewReader(otherText + "\ncert-authority " + text + "\n" + text + " plain\n"))
	if len(problems) != 0 {
		t.Fatal(problems)
	}
	if e, err := Authorize(entries, key, here()); err != nil || e.Comment != "plain" {
		t.Errorf("found %+v, %v: an authority's line must not match", e, err)
	}
	if _, err := Authorize(entries[:2], key, here()); !errors.Is(err, ErrNoKey) {
		t.Errorf("an authority's own key: %v", err)
	}
}

// here is a client for whom a line without from= is good.
func here() Client {
	return Client{User: "root", Remote: netip.MustParseAddr("192.0.2.1"), Now: time.Now()}
}

func TestPermit(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		options, remote, host string
		refusal               string
	}{
		{"pty", "192.0.2.1", "", ""},
		{`from="192.0.2.0/24"`, "192.0.2.1", "", ""},
		{`from="192.0.2.0/24"`, "::ffff:192.0.2.1", "", ""},
		{`from="192.0.2.0/24"`, "198.51.100.1", "", "not from a permitted host"},
		{`from="192.0.2.0/24,!192.0.2.1"`, "192.0.2.1", "", "not from a permitted host"},
		{`from="*.example.com"`, "192.0.2.1", "a.example.com", ""},
		{`from="*.example.com"`, "192.0.2.1", "", "not from a permitted host"},
		{`from=""`, "192.0.2.1", "", "empty element"},
		{`expiry-time="20260101Z"`, "192.0.2.1", "", ""},
		{`expiry-time="20251231Z"`, "192.0.2.1", "", "key expired at 2025-12-31"},
	}
	for _, tt := range tests {
		o, err := parseOptions(tt.options)
		if err == nil {
			err = o.Permit(netip.MustParseAddr(tt.remote), tt.host, now)
		}
		switch {
		case tt.refusal == "" && err != nil:
			t.Errorf("%s from %s: %v", tt.options, tt.remote, err)
		case tt.refusal != "" && (err == nil || !strings.Contains(err.Error(), tt.refusal)):
			t.Errorf("%s from %s: %v, want %q", tt.options, tt.remote, err, tt.refusal)
		}
	}
}

func TestAuthorizeGoesOnToALaterLine(t *testing.T) {
	key, text := newKey(t)
	stranger, _ := newKey(t)
	file := fmt.Sprintf("expiry-time=\"20200101Z\" %s\nprincipals=\"root\" %s\nfrom=\"192.0.2.1\" %s third\n", text, text, text)
	entries, problems := Parse(strings.NewReader(file))
	if len(problems) != 0 {
		t.Fatal(problems)
	}
	elsewhere := here()
	elsewhere.Remote = netip.MustParseAddr("192.0.2.2")
	e, err := Authorize(entries, key, here())
	if err != nil || e.Comment != "third" {
		t.Errorf("got %+v, %v", e, err)
	}
	_, err = Authorize(entries, key, elsewhere)
	if err == nil || !strings.HasPrefix(err.Error(), "line 3: ") {
		t.Errorf("refused by all lines: %v", err)
	}
	if _, err := Authorize(entries, stranger, here()); !errors.Is(err, ErrNoKey) {
		t.Errorf("a stranger's key: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	_, text := newKey(f)
	f.Add([]byte(text))
	f.Add([]byte(`restrict,pty,command="a \" b",from="10.0.0.0/8,!10.1.0.0/16" ` + text + " comment"))
	f.Add([]byte(`expiry-time="20300101",environment="A=1",permitopen="[::1]:*",permitlisten="80" ` + text))
	f.Add([]byte("cert-authority,principals=\"a,b\"\t" + text + "\r\n# comment\n\n"))
	f.Add([]byte(`command="unfinished ` + text))
	f.Add([]byte(newCertificate(f)))
	f.Add([]byte(`restrict,command="id" alice` + "\nbob\nfrom=\"10.0.0.0/8\" carol"))
	f.Add([]byte("256 SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU comment (ED25519)\n" + text))
	f.Add([]byte(krlMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, problems := Parse(strings.NewReader(string(data)))
		lines := strings.Count(string(data), "\n") + 1
		if len(entries)+len(problems) > lines+1 {
			t.Errorf("%d entries and %d problems from %d lines", len(entries), len(problems), lines)
		}
		for _, e := range entries {
			if e.Key == nil || e.Line < 1 || e.Line > lines {
				t.Errorf("entry %+v", e)
			}
			if err := e.Options.Permit(netip.IPv6LinkLocalAllNodes(), "", time.Unix(0, 0)); err != nil && e.Options.From == nil && e.Options.Expiry.IsZero() {
				t.Errorf("refused without a reason to: %v", err)
			}
		}
		principals, problems := ParsePrincipals(strings.NewReader(string(data)))
		if principals == nil || len(principals)+len(problems) > lines+1 {
			t.Errorf("%d principals and %d problems from %d lines", len(principals), len(problems), lines)
		}
		for _, p := range principals {
			if p.Name == "" || strings.ContainsAny(p.Name, " \t\n") {
				t.Errorf("principal %+v", p)
			}
		}
		if _, err := ParseRevoked(strings.NewReader(string(data))); err == nil {
			return
		}
		if trusted, err := ParseAuthorities(strings.NewReader(string(data))); err == nil {
			t.Errorf("a list of authorities that is no list of revoked keys: %v", trusted)
		}
	})
}
