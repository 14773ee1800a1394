package sshdconfig

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDirectivesReachTheirFields sets one directive at a time and looks for
// nothing but its own field to have changed.
func TestDirectivesReachTheirFields(t *testing.T) {
	tests := []struct {
		line   string
		change func(*values)
	}{
		{"AllowTcpForwarding remote", func(v *values) { v.AllowTCPForwarding = "remote" }},
		{"AllowTcpForwarding all", func(v *values) {}},
		{"AllowStreamLocalForwarding local", func(v *values) { v.AllowStreamLocalForwarding = "local" }},
		{"AllowAgentForwarding no", func(v *values) { v.AllowAgentForwarding = false }},
		{"GatewayPorts clientspecified", func(v *values) { v.GatewayPorts = "clientspecified" }},
		{"PermitOpen a:1 [::1]:*", func(v *values) { v.PermitOpen = []string{"a:1", "[::1]:*"} }},
		{"PermitOpen none", func(v *values) { v.PermitOpen = []string{} }},
		{"PermitOpen any", func(v *values) {}},
		{"PermitListen 80 b:90", func(v *values) { v.PermitListen = []string{"*:80", "b:90"} }},
		{"StreamLocalBindMask 022", func(v *values) { v.StreamLocalBindMask = 0o022 }},
		{"StreamLocalBindUnlink yes", func(v *values) { v.StreamLocalBindUnlink = true }},
		{"HostCertificate /c", func(v *values) { v.HostCertificates = []string{"/c"} }},
		{"HostKey none", func(v *values) { v.HostKeys = []string{} }},
		{"TrustedUserCAKeys /ca", func(v *values) { v.TrustedUserCAKeys = "/ca" }},
		{"AuthorizedPrincipalsFile %h/p", func(v *values) { v.AuthorizedPrincipalsFile = "%h/p" }},
		{"AuthorizedPrincipalsCommand /p  %u\nAuthorizedPrincipalsCommandUser a", func(v *values) {
			v.AuthorizedPrincipalsCommand, v.AuthorizedPrincipalsCommandUser = "/p  %u", "a"
		}},
		{"AuthorizedKeysCommand /k %u\nAuthorizedKeysCommandUser a", func(v *values) {
			v.AuthorizedKeysCommand, v.AuthorizedKeysCommandUser = "/k %u", "a"
		}},
		{"AuthorizedKeysCommand none", func(v *values) {}},
		{"CASignatureAlgorithms ssh-ed25519", func(v *values) { v.CASignatureAlgorithms = []string{"ssh-ed25519"} }},
		{"RevokedKeys /a /b", func(v *values) { v.RevokedKeys = []string{"/a", "/b"} }},
		{"PubkeyAuthOptions touch-required", func(v *values) { v.TouchRequired = true }},
		{"PerSourceMaxStartups 3", func(v *values) { v.PerSource.MaxStartups = 3 }},
		{"PerSourceNetBlockSize 24:48", func(v *values) { v.PerSource.Prefix4, v.PerSource.Prefix6 = 24, 48 }},
		{"PerSourcePenaltyExemptList 10.0.0.0/8,::1", func(v *values) { v.PerSource.Exempt = "10.0.0.0/8,::1" }},
		{"UnusedConnectionTimeout 5m", func(v *values) { v.UnusedConnectionTimeout = 5 * time.Minute }},
		{"ChannelTimeout session:*=1m *=0", func(v *values) {
			v.ChannelTimeouts = []ChannelTimeout{{"session:*", time.Minute}, {"*", 0}}
		}},
		{"PermitUserRC no", func(v *values) { v.PermitUserRC = false }},
		{"ExposeAuthInfo yes", func(v *values) { v.ExposeAuthInfo = true }},
		{"FingerprintHash MD5", func(v *values) { v.FingerprintHash = "md5" }},
		{"IPQoS ef none", func(v *values) { v.IPQoS = [2]int{0xb8, -1} }},
		{"UseDNS yes", func(v *values) { v.UseDNS = true }},
		{"RefuseConnection yes", func(v *values) { v.RefuseConnection = true }},
		{"PidFile none", func(v *values) { v.PidFile = "" }},
		{"SyslogFacility local7", func(v *values) { v.SyslogFacility = "LOCAL7" }},
		{"MaxAuthTries 2", func(v *values) { v.MaxAuthTries = 2 }},
		{"RekeyLimit 1M", func(v *values) { v.RekeyLimit = 1 << 20 }},
		{"LogLevel silent", func(v *values) { v.LogLevel = "QUIET" }},
		{"DisableForwarding yes", func(v *values) {
			v.DisableForwarding = true
			v.AllowTCPForwarding, v.AllowStreamLocalForwarding, v.AllowAgentForwarding = "no", "no", false
		}},
	}
	for _, tt := range tests {
		c := load(t, tt.line+"\n")
		want := defaults()
		want.Listen = []string{":22"}
		tt.change(want)
		if got := settings(t, c, root); !reflect.DeepEqual(got, want.Settings) {
			t.Errorf("%s:\n%+v, want\n%+v", tt.line, got, want.Settings)
		}
		got := c.Server()
		if len(got.HostKeys)+len(want.HostKeys) == 0 {
			got.HostKeys, want.HostKeys = nil, nil
		}
		if !reflect.DeepEqual(got, want.Server) {
			t.Errorf("%s:\n%+v, want\n%+v", tt.line, got, want.Server)
		}
	}
}

func TestPenalties(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "no"},
		{"PerSourcePenalties no", "no"},
		{"PerSourcePenalties yes", defaultText},
		{"PerSourcePenalties no\nPerSourcePenalties yes", "no"},
		{"PerSourcePenalties authfail:1m", strings.Replace(defaultText, "authfail:5", "authfail:60", 1)},
		{"PerSourcePenalties authfail:1m\nPerSourcePenalties authfail:9 max:1h", strings.Replace(strings.Replace(defaultText, "authfail:5", "authfail:60", 1), "max:600", "max:3600", 1)},
		{"PerSourcePenalties overflow:deny-all", strings.ReplaceAll(defaultText, "permissive", "deny-all")},
		{"PerSourcePenalties overflow:deny-all overflow6:permissive max-sources4:5",
			strings.Replace(strings.Replace(defaultText, "overflow:permissive", "overflow:deny-all", 1), "max-sources4:65536", "max-sources4:5", 1)},
	}
	for _, tt := range tests {
		if got := load(t, tt.text+"\n").Server().PerSource.Penalties.String(); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.text, got, tt.want)
		}
	}
	for line, want := range map[string]string{
		"PerSourcePenalties yes authfail:5":     `keyword PerSourcePenalties "yes" argument must appear alone`,
		"PerSourcePenalties authfail:x":         "PerSourcePenalties authfail:x: invalid time value",
		"PerSourcePenalties theft:5":            "PerSourcePenalties theft:5: unsupported keyword",
		"PerSourcePenalties overflow:maybe":     "PerSourcePenalties overflow:maybe: want permissive or deny-all",
		"PerSourcePenaltyExemptList 10.1/99":    "",
		"PerSourcePenaltyExemptList 10.0.0.1/8": "keyword PerSourcePenaltyExemptList invalid address argument",
	} {
		_, err := loadWith(line+"\n", Overlay{})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

const defaultText = "crash:90 authfail:5 noauth:1 invaliduser:5 grace-exceeded:10 refuseconnection:10 max:600 min:15 " +
	"max-sources4:65536 max-sources6:65536 overflow:permissive overflow6:permissive"

// What came to OpenSSH after the release that the dumps are compared with is
// shown where it is set, and only there.
func TestDumpOfNewerDirectives(t *testing.T) {
	plain, err := load(t, "").Dump(root)
	if err != nil {
		t.Fatal(err)
	}
	text := "RefuseConnection yes\nPerSourcePenalties max:1h\nPerSourcePenaltyExemptList 10.0.0.0/8\nPAMServiceName x\nSshdSessionPath /x\nSshdAuthPath /y\n"
	newer, err := load(t, text).Dump(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"refuseconnection yes\n", "persourcepenalties crash:90 ", "persourcepenaltyexemptlist 10.0.0.0/8\n",
		"pamservicename x\n", "sshdsessionpath /x\n", "sshdauthpath /y\n"} {
		keyword, _, _ := strings.Cut(line, " ")
		if !strings.Contains(newer, "\n"+line) || strings.Contains(plain, keyword) {
			t.Errorf("%q: missing, or there by default", line)
		}
	}
}

func TestDumpShowsTheOverlay(t *testing.T) {
	c, err := loadWith("SetEnv SITE=1 JOB=site\nDisableForwarding yes\n", Overlay{SetEnv: []string{"JOB=7"}, ChrootDirectory: "/jail"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.Dump(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"\nsetenv JOB=7\nsetenv SITE=1\n", "\nchrootdirectory /jail\n", "\nallowtcpforwarding yes\n", "\ndisableforwarding yes\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
}

func TestRevocationListsAreRefused(t *testing.T) {
	dir := t.TempDir()
	krl, list := filepath.Join(dir, "krl"), filepath.Join(dir, "list")
	for name, text := range map[string]string{krl: "SSHKRL\n\x00\x00\x00\x00\x01", list: "ssh-ed25519 AAAA\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := loadWith("\nRevokedKeys "+krl+"\n", Overlay{}); err == nil || !strings.HasPrefix(err.Error(), "sshd_config line 2: RevokedKeys "+krl+" is not supported") {
		t.Errorf("a binary list: %v", err)
	}
	for _, name := range []string{list, dir, filepath.Join(dir, "missing")} {
		if s := settings(t, load(t, "RevokedKeys "+name+"\n"), root); !slices.Equal(s.RevokedKeys, []string{name}) {
			t.Errorf("%s: %q", name, s.RevokedKeys)
		}
	}
}

func TestAcceptsKey(t *testing.T) {
	tests := []struct {
		accepted, keyType string
		want              bool
	}{
		{"", "ssh-rsa", true},
		{"", "ssh-dss", false},
		{"", "ssh-ed25519-cert-v01@openssh.com", true},
		{"ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com", false},
		{"ssh-ed25519", "ssh-rsa", false},
		{"rsa-sha2-256", "ssh-rsa", true},
		{"rsa-sha2-256", "ssh-rsa-cert-v01@openssh.com", false},
		{"rsa-sha2-512-cert-v01@openssh.com", "ssh-rsa-cert-v01@openssh.com", true},
		{"ssh-rsa", "ssh-rsa", true},
	}
	for _, tt := range tests {
		var s Settings
		if tt.accepted != "" {
			s.PubkeyAcceptedAlgorithms = []string{tt.accepted}
		}
		if got := s.AcceptsKey(tt.keyType); got != tt.want {
			t.Errorf("%q and a key of type %s: %v", tt.accepted, tt.keyType, got)
		}
	}
}

// Nothing that is unknown of a connection meets a criterion, not even a
// pattern for everything.
func TestUnknownMeetsNoCriterion(t *testing.T) {
	for _, criterion := range []string{"User *", "Group *", "Host *", "Address *", "LocalAddress *", "LocalPort 22", "RDomain *", "invalid-user", "User !x,*"} {
		if s := settings(t, load(t, "Match "+criterion+"\nPermitTTY no\n"), Connection{}); !s.PermitTTY {
			t.Errorf("Match %s holds for an unknown connection", criterion)
		}
	}
	if s := settings(t, load(t, "Match Version OpenSSH_10.*\nPermitTTY no\n"), Connection{}); s.PermitTTY {
		t.Error("Match Version does not hold")
	}
	if s := settings(t, load(t, "Match invalid-user\nPermitTTY no\n"), Connection{InvalidUser: true}); s.PermitTTY {
		t.Error("Match invalid-user does not hold")
	}
}
