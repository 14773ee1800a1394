package sshdconfig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sshd is the real server, asked for its opinion of configurations.
type sshd struct{ hostKey, file string }

func findSshd(t *testing.T) sshd {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/sshd"); err != nil {
		t.Skip("needs OpenSSH's sshd")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: sshd checks its privilege separation directory")
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := sshd{hostKey: filepath.Join(dir, "host"), file: filepath.Join(dir, "sshd_config")}
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.hostKey).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	return s
}

// test runs sshd -T on a configuration. The host key comes first, as a command
// line's does.
func (s sshd) test(t *testing.T, text string, args ...string) (string, error) {
	t.Helper()
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/usr/sbin/sshd", append([]string{"-T", "-f", s.file, "-h", s.hostKey}, args...)...).CombinedOutput()
	return string(out), err
}

// TestAgainstSshd compares all values that this package knows with those that
// sshd -T prints for the same file and connection.
func TestAgainstSshd(t *testing.T) {
	real := findSshd(t)
	const guest = "user=guest,host=node.example.com,addr=192.0.2.7,laddr=10.0.0.1,lport=22"
	const asRoot = "user=root,host=node.example.com,addr=192.0.2.7,laddr=10.0.0.1,lport=22"
	tests := []struct {
		name, text, spec string
		args             []string
	}{
		{"empty", "", asRoot, nil},
		{"sidecar", sidecarFile, asRoot, nil},
		{"sidecar in a jail, root", sidecarFile + jailLines, asRoot, nil},
		{"sidecar in a jail, guest", sidecarFile + jailLines, guest, nil},
		{"two SetEnv lines", "SetEnv A=1 B=2 A=3\nSetEnv C=4\n", asRoot, nil},
		{"quotes", "SetEnv A=\"b c\" 'D=e f' # G=h\nForceCommand echo \"a\" # b\nBanner \"/etc/is\"'sue'\nVersionAddendum a  b # c\n", asRoot, nil},
		{"equal signs", "Port=2222\nMaxSessions = 5\nAcceptEnv=LANG LC_*\nAcceptEnv XX\n", asRoot, nil},
		{"first wins", "PermitRootLogin no\npermitrootlogin yes\nMaxAuthTries 3\nMaxAuthTries 4\nAuthorizedKeysFile a b\nAuthorizedKeysFile c\n", asRoot, nil},
		{"times", "LoginGraceTime 1h30m\nClientAliveInterval 2m5\nClientAliveCountMax 0\n", asRoot, nil},
		{"numbers", "MaxStartups 5:50:60\nRekeyLimit 1G\nRequiredRSASize 2048\nLogLevel debug3\n", asRoot, nil},
		{"small MaxStartups", "MaxStartups 20\nRekeyLimit default none\nLogLevel quiet\nPidFile none\n", asRoot, nil},
		{"users", "AllowUsers root guest\nDenyUsers a*\nAllowUsers x@192.0.2.0/24\nAllowGroups g h\nDenyGroups i\n", asRoot, nil},
		{"addresses", "ListenAddress 127.0.0.1\nListenAddress [::1]:99\nListenAddress ::1\nPort 97\nPort 98\n", asRoot, nil},
		{"one family", "AddressFamily inet\nPort 2022\n", asRoot, nil},
		{"block over global", "MaxSessions 1\nAcceptEnv A\nAllowUsers a\nMatch User root\nMaxSessions 2\nMaxSessions 3\nAcceptEnv B\nAcceptEnv C\nSetEnv X=1\n", asRoot, nil},
		{"first block wins", "Match Host *.example.com\nMaxSessions 2\nMatch User root\nMaxSessions 3\nPermitTTY no\n", asRoot, nil},
		{"blocks for others", "Match User root,!root\nMaxSessions 2\nMatch Address 10.0.0.0/8\nMaxSessions 3\nMatch LocalPort 23\nMaxSessions 4\nMatch User nobody Host *\nMaxSessions 5\n", guest, nil},
		{"all criteria", "Match User g* Host *.com,!*.org Address 192.0.2.0/24 LocalAddress 10.* LocalPort 22\nBanner /etc/motd\n", guest, nil},
		{"match all", "MaxSessions 1\nMatch User root\nMaxSessions 2\nMatch all\nMaxSessions 3\nPort 2222\n", asRoot, nil},
		{"match all, guest", "MaxSessions 1\nMatch User root\nMaxSessions 2\nMatch all\nMaxSessions 3\nStrictModes no\n", guest, nil},
		{"none clears", "ForceCommand id\nChrootDirectory /jail\nMatch User root\nForceCommand none\nChrootDirectory none\n", asRoot, nil},
		{"options win over the file", "MaxSessions 1\nPort 22\nLogLevel INFO\n", asRoot, []string{"-p2222", "-o", "MaxSessions=7", "-4", "-g", "5m", "-d"}},
		{"blocks win over options", "Match User root\nMaxSessions 1\n", asRoot, []string{"-oMaxSessions=7"}},
		{"subsystems", "Subsystem sftp internal-sftp -f AUTH  -l INFO\nSubsystem other /bin/true\n", asRoot, nil},
		{"switches", "PubkeyAuthentication no\nStrictModes no\nPrintMotd NO\nTCPKeepAlive no\nPermitUserEnvironment yes\nPermitTTY Yes\nPermitRootLogin forced-commands-only\n", asRoot, nil},
		{"user environment", "PermitUserEnvironment LANG,LC_*\n", asRoot, nil},
		{"no user environment", "PermitUserEnvironment no\n", asRoot, nil},
		{"algorithms", "Ciphers aes256-ctr,aes128-gcm@openssh.com\nMACs hmac-sha2-512,hmac-sha1\nKexAlgorithms curve25519-sha256,diffie-hellman-group14-sha1\nHostKeyAlgorithms ssh-ed25519,ssh-rsa\nPubkeyAcceptedKeyTypes ssh-ed25519,rsa-sha2-512\n", asRoot, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			output, err := real.test(t, tt.text, append(tt.args, "-C", tt.spec)...)
			if err != nil {
				t.Fatalf("sshd: %v\n%s", err, output)
			}
			theirs := parseDump(output)
			for key, values := range ours(t, tt.text, append(tt.args, "-T", "-h", real.hostKey, "-C", tt.spec)) {
				if !slices.Equal(values, theirs[key]) {
					t.Errorf("%s: %q, sshd has %q", key, values, theirs[key])
				}
			}
		})
	}
}

// ours is Dump for the connection of a command line, as a table.
func ours(t *testing.T, text string, args []string) map[string][]string {
	t.Helper()
	cl, err := ParseCommandLine(args)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(cl, []byte(text), Overlay{})
	if err != nil {
		t.Fatal(err)
	}
	output, err := c.Dump(*cl.TestConnection)
	if err != nil {
		t.Fatal(err)
	}
	table := parseDump(output)
	if len(table) < 25 {
		t.Fatalf("only %d keywords:\n%s", len(table), output)
	}
	return table
}

// parseDump collects the values of each keyword. It evens out what differs in
// form only: the order of addresses and subsystems, other names of a value.
func parseDump(output string) map[string][]string {
	table := map[string][]string{}
	for line := range strings.Lines(output) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case key == "permitrootlogin" && value == "without-password":
			value = "prohibit-password"
		case key == "loglevel" && value == "DEBUG":
			value = "DEBUG1"
		case key == "loglevel" && value == "SILENT":
			value = "QUIET"
		}
		table[key] = append(table[key], value)
	}
	slices.Sort(table["listenaddress"])
	slices.Sort(table["subsystem"])
	return table
}

// TestSshdRefusesTheSame checks that what this package calls a mistake is one
// for sshd, with the same line.
func TestSshdRefusesTheSame(t *testing.T) {
	real := findSshd(t)
	for _, line := range []string{
		"Prot 22", "Port", "Port 65536", "Port 22 23", "Banner \"/etc/issue", "StrictModes maybe", "StrictModes true", "LoginGraceTime 1y",
		"MaxSessions -1", "MaxStartups 10:30", "MaxStartups 10:130:20", "RekeyLimit 15", "SetEnv NOPAIR", "AcceptEnv A=B",
		"Subsystem sftp", "Ciphers nosuch", "Ciphers aes*", "Match", "Match User", "Match Shoe 43", "Match all User root",
		"Match User root all", "Match Address 192.0.2.1/24", "Match LocalPort many", "AllowUsers root@192.0.2.1/24",
		"LogLevel loud", "AddressFamily inet5", "PermitRootLogin maybe",
	} {
		text := "\n" + line + "\n"
		output, err := real.test(t, text)
		if err == nil || !strings.Contains(output, "line 2") {
			t.Errorf("sshd and %q: %v %s", line, err, output)
		}
		if _, err := Load(CommandLine{ConfigFile: "f"}, []byte(text), Overlay{}); err == nil || !strings.Contains(err.Error(), "line 2: ") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// TestKeywordsAreThoseOfSshd asks sshd of each keyword in the table whether it
// knows it and whether it may stand within a Match block.
func TestKeywordsAreThoseOfSshd(t *testing.T) {
	real := findSshd(t)
	// These came to OpenSSH, or to Match blocks, after the release that this
	// test may meet, or depend on how it was built. DSAAuthentication is
	// PubkeyAuthentication, though for sshd not within a Match block.
	differ := strings.Fields("Subsystem RefuseConnection SshdSessionPath SshdAuthPath PAMServiceName PerSourcePenalties PerSourcePenaltyExemptList ChannelTimeout KerberosGetAFSToken DSAAuthentication")
	checked := 0
	for i := range keywords {
		k := &keywords[i]
		for name := range strings.FieldsSeq(k.names) {
			if k.kind == structure || slices.Contains(differ, name) {
				continue
			}
			output, _ := real.test(t, fmt.Sprintf("Match User nobody\n%s x\n", name))
			if strings.Contains(output, "Bad configuration option") {
				t.Errorf("sshd does not know %s", name)
			}
			globalForSshd := strings.Contains(output, "is not allowed within a Match block")
			if globalForSshd != (k.scope == global) {
				t.Errorf("%s: sshd wants it outside of Match blocks: %v", name, globalForSshd)
			}
			checked++
		}
	}
	if checked < 100 {
		t.Errorf("only %d names checked", checked)
	}
}
