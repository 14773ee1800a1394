package sshdconfig

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// sidecarFile is the configuration that image jobs come with today.
const sidecarFile = `Port 22
LogLevel INFO
PermitRootLogin yes
PubkeyAuthentication yes
AuthorizedKeysFile /etc/cray/ims/authorized_keys
PasswordAuthentication no
ChallengeResponseAuthentication no
Subsystem sftp internal-sftp
`

// jailLines is what the script of the original server appends for a jail.
const jailLines = `SetEnv IMS_JOB_ID=7 IMS_ARCH=x86_64
Match User root
ChrootDirectory /mnt/image/image-root
`

var root = Connection{User: "root", Host: "192.0.2.7", Address: "192.0.2.7", LocalAddress: "192.0.2.1", LocalPort: 22, Groups: []string{"root"}}

// load reads text as the file "sshd_config" with a command line.
func load(t *testing.T, text string, args ...string) *Config {
	t.Helper()
	c, err := loadWith(text, Overlay{}, args...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func loadWith(text string, overlay Overlay, args ...string) (*Config, error) {
	cl, err := ParseCommandLine(append([]string{"-f", "sshd_config"}, args...))
	if err != nil {
		return nil, err
	}
	return Load(cl, []byte(text), overlay)
}

func settings(t *testing.T, c *Config, conn Connection) Settings {
	t.Helper()
	s, err := c.For(conn)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSidecarFile(t *testing.T) {
	c := load(t, sidecarFile)
	want := defaults().Settings
	want.PermitRootLogin = "yes"
	want.AuthorizedKeysFiles = []string{"/etc/cray/ims/authorized_keys"}
	want.Subsystems = map[string]string{"sftp": "internal-sftp"}
	if s := settings(t, c, root); !reflect.DeepEqual(s, want) {
		t.Errorf("settings %+v", s)
	}
	server := defaults().Server
	server.Listen = []string{":22"}
	if !reflect.DeepEqual(c.Server(), server) {
		t.Errorf("server %+v", c.Server())
	}
	if len(c.Warnings()) != 0 {
		t.Errorf("warnings %q", c.Warnings())
	}
}

func TestSidecarFileWithAppendedLines(t *testing.T) {
	c := load(t, sidecarFile+jailLines)
	s := settings(t, c, root)
	if s.ChrootDirectory != "/mnt/image/image-root" || !slices.Equal(s.SetEnv, []string{"IMS_JOB_ID=7", "IMS_ARCH=x86_64"}) {
		t.Errorf("root: chroot %q, environment %q", s.ChrootDirectory, s.SetEnv)
	}
	if s := settings(t, c, Connection{User: "guest"}); s.ChrootDirectory != "" || len(s.SetEnv) != 2 {
		t.Errorf("guest: chroot %q, environment %q", s.ChrootDirectory, s.SetEnv)
	}
}

func TestASecondSetEnvLineIsToldToBeLost(t *testing.T) {
	c := load(t, "SetEnv SITE=1\n"+sidecarFile+jailLines)
	if s := settings(t, c, root); !slices.Equal(s.SetEnv, []string{"SITE=1"}) {
		t.Errorf("environment %q", s.SetEnv)
	}
	if w := c.Warnings(); len(w) != 1 || !strings.HasPrefix(w[0], "sshd_config line 10: SetEnv: ignored") {
		t.Errorf("warnings %q", w)
	}
}

func TestOverlayWinsOverTheFile(t *testing.T) {
	text := "SetEnv SITE=1 IMS_ARCH=wrong\nChrootDirectory none\nMatch User root\nChrootDirectory /elsewhere\nSetEnv INNER=2\n"
	overlay := Overlay{SetEnv: []string{"IMS_JOB_ID=7", "IMS_ARCH=aarch64"}, ChrootDirectory: "/jail"}
	c, err := loadWith(text, overlay)
	if err != nil {
		t.Fatal(err)
	}
	s := settings(t, c, root)
	if s.ChrootDirectory != "/jail" || !slices.Equal(s.SetEnv, []string{"IMS_JOB_ID=7", "IMS_ARCH=aarch64", "INNER=2"}) {
		t.Errorf("root: chroot %q, environment %q", s.ChrootDirectory, s.SetEnv)
	}
	s = settings(t, c, Connection{User: "guest"})
	if s.ChrootDirectory != "/jail" || !slices.Equal(s.SetEnv, []string{"IMS_JOB_ID=7", "IMS_ARCH=aarch64", "SITE=1"}) {
		t.Errorf("guest: chroot %q, environment %q", s.ChrootDirectory, s.SetEnv)
	}
	if _, err := loadWith("", Overlay{SetEnv: []string{"NONAME"}}); err == nil {
		t.Error("an overlay without = was accepted")
	}
}

func TestSettingsAreNotShared(t *testing.T) {
	c := load(t, "SetEnv A=1\nAcceptEnv LANG\nSubsystem sftp internal-sftp\n")
	s := settings(t, c, root)
	s.SetEnv[0], s.AcceptEnv[0], s.Subsystems["sftp"] = "B=2", "*", "/bin/sh"
	again := settings(t, c, root)
	if again.SetEnv[0] != "A=1" || again.AcceptEnv[0] != "LANG" || again.Subsystems["sftp"] != "internal-sftp" {
		t.Errorf("one connection changed another's settings: %+v", again)
	}
}

func TestListen(t *testing.T) {
	tests := []struct {
		text string
		args []string
		want []string
	}{
		{"", nil, []string{":22"}},
		{"Port 2222\nPort 2223", nil, []string{":2222", ":2223"}},
		{"ListenAddress 127.0.0.1:0", nil, []string{"127.0.0.1:0"}},
		{"ListenAddress ::1\nListenAddress 192.0.2.1:99\nListenAddress [::2]:98\nListenAddress [::3]\nPort 97", nil,
			[]string{"[::1]:97", "192.0.2.1:99", "[::2]:98", "[::3]:97"}},
		{"Port 22\nListenAddress 192.0.2.1:99\nListenAddress 192.0.2.2", []string{"-p2222", "-p", "2223"},
			[]string{"192.0.2.1:99", "192.0.2.2:2222", "192.0.2.2:2223"}},
		{"Port 22", []string{"-o", "Port=2222"}, []string{":2222", ":22"}},
	}
	for _, tt := range tests {
		if got := load(t, tt.text, tt.args...).Server().Listen; !slices.Equal(got, tt.want) {
			t.Errorf("%q %q: listen on %q, want %q", tt.text, tt.args, got, tt.want)
		}
	}
}

func TestCommandLineComesFirst(t *testing.T) {
	c := load(t, "LogLevel INFO\nPermitRootLogin no\nLoginGraceTime 10\nAcceptEnv B\nHostKey /b\nAddressFamily any\n",
		"-4dd", "-g1m", "-h", "/a key", "-oPermitRootLogin=yes", "-o", "AcceptEnv A")
	server := c.Server()
	if settings(t, c, root).LogLevel != "DEBUG2" || server.LoginGraceTime != time.Minute || server.AddressFamily != "inet" {
		t.Errorf("server %+v", server)
	}
	if !slices.Equal(server.HostKeys, []string{"/a key", "/b"}) {
		t.Errorf("host keys %q", server.HostKeys)
	}
	if s := settings(t, c, root); s.PermitRootLogin != "yes" || !slices.Equal(s.AcceptEnv, []string{"A", "B"}) {
		t.Errorf("settings %+v", s)
	}
}

func TestInclude(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"main":     "Include " + dir + "/d/*.conf\nMaxSessions 3\nMatch User root\nInclude " + dir + "/inner\nClientAliveCountMax 2\nMatch User guest\nInclude " + dir + "/inner",
		"d/1.conf": "MaxSessions 1\nMatch User root\nPermitTTY no",
		"d/2.conf": "MaxSessions 2\nClientAliveCountMax 9",
		"inner":    "Banner /etc/inner\nMatch Address 192.0.2.0/24\nAcceptEnv NEAR\n",
		"loop":     "Include " + dir + "/loop",
		"leak":     "Match User root\nInclude " + dir + "/port\n",
		"port":     "Port 22\n",
		"bad":      "Include " + dir + "/badder\n",
		"badder":   "\nNoSuch 1\n",
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) (*Config, error) {
		return Load(CommandLine{ConfigFile: filepath.Join(dir, name)}, nil, Overlay{})
	}

	c, err := read("main")
	if err != nil {
		t.Fatal(err)
	}
	s := settings(t, c, root)
	if s.MaxSessions != 1 || s.PermitTTY || s.ClientAliveCountMax != 2 || s.Banner != "/etc/inner" || !slices.Equal(s.AcceptEnv, []string{"NEAR"}) {
		t.Errorf("root, near: %+v", s)
	}
	far := settings(t, c, Connection{User: "guest", Address: "198.51.100.1"})
	if !far.PermitTTY || far.ClientAliveCountMax != 9 || far.Banner != "/etc/inner" || far.AcceptEnv != nil {
		t.Errorf("guest, far: %+v", far)
	}
	other := settings(t, c, Connection{User: "other", Address: "192.0.2.9"})
	if other.Banner != "" || other.AcceptEnv != nil {
		t.Errorf("other, near: an included Match must not hold outside of the block around it: %+v", other)
	}
	for name, want := range map[string]string{
		"loop":    "Too many recursive configuration includes",
		"leak":    "port line 1: Directive 'Port' is not allowed within a Match block",
		"bad":     "badder: line 2: Bad configuration option: NoSuch",
		"missing": "no such file",
	} {
		if _, err := read(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestErrors(t *testing.T) {
	const invalid, unknown = "sshd_config line 2: ", "sshd_config: line 2: "
	tests := []struct{ line, want string }{
		{"Prot 22", unknown + "Bad configuration option: Prot"},
		{"Prot 22\n\nPermitRoot yes", unknown + "Bad configuration option: Prot\nsshd_config: line 4: Bad configuration option: PermitRoot\nsshd_config: terminating, 2 bad configuration options"},
		{"Prot 22\nPort x", unknown + "Bad configuration option: Prot\nsshd_config line 3: Badly formatted port number"},
		{"Port", "no argument after keyword \"Port\""},
		{"Port #", invalid + "Port missing argument"},
		{"Port 22 23", invalid + "keyword Port extra arguments at end of line"},
		{"Port 65536", invalid + "Badly formatted port number"},
		{"ListenAddress host:port", invalid + "bad port number"},
		{"ListenAddress 192.0.2.1 rdomain 1", invalid + "bad routing domain"},
		{"Banner \"/etc/issue", invalid + "invalid quotes"},
		{"StrictModes maybe", invalid + `unsupported option "maybe"`},
		{"PermitRootLogin maybe", invalid + `unsupported option "maybe"`},
		{"LoginGraceTime 1y", invalid + "invalid time value"},
		{"LoginGraceTime 9999999w", invalid + "invalid time value"},
		{"LoginGraceTime h", invalid + "invalid time value"},
		{"MaxSessions -1", invalid + "MaxSessions integer value too small"},
		{"MaxStartups 10:30", invalid + "Invalid MaxStartups spec"},
		{"MaxStartups 10:130:20", invalid + "Invalid MaxStartups spec"},
		{"RekeyLimit 1G 1h", invalid + "RekeyLimit 1G 1h: a time is not supported"},
		{"RekeyLimit 15", invalid + "RekeyLimit too small"},
		{"RekeyLimit 1KM", invalid + "Bad RekeyLimit number '1KM': Invalid argument"},
		{"SetEnv NOPAIR", invalid + "Invalid environment: "},
		{"AcceptEnv A=B", invalid + "Invalid environment name: \"A=B\""},
		{"AllowUsers root@192.0.2.1/24", invalid + `invalid AllowUsers pattern: "root@192.0.2.1/24": inconsistent mask length`},
		{"Subsystem sftp", invalid + "Missing subsystem command"},
		{"Ciphers nosuch", invalid + `Bad SSH2 cipher spec 'nosuch': unknown algorithm "nosuch"`},
		{"Ciphers aes*", invalid + `Bad SSH2 cipher spec 'aes*': unknown algorithm`},
		{"MACs umac-64@openssh.com", invalid + `Bad SSH2 mac spec 'umac-64@openssh.com': this server supports none`},
		{"MACs -*", invalid + "Bad SSH2 mac spec '-*': this server supports none"},
		{"VersionAddendum a\tb", invalid + "Invalid VersionAddendum"},
		{"Match", "no argument after keyword"},
		{"Match #", invalid + "Bad Match condition: one or more attributes required"},
		{"Match User", invalid + "Bad Match condition: missing Match criteria for User"},
		{"Match Shoe 43", invalid + "Bad Match condition: Unsupported Match attribute shoe"},
		{"Match all User root", invalid + "Bad Match condition: 'all' cannot be combined"},
		{"Match User root all", invalid + "Bad Match condition: 'all' cannot be combined"},
		{"Match Address 192.0.2.1/24", invalid + "Bad Match condition: inconsistent mask length"},
		{"Match LocalPort many", invalid + "Bad Match condition: Invalid port 'many'"},
		{"Match User root\nport 22", "sshd_config line 3: Directive 'port' is not allowed within a Match block"},
		{"Match User root\nMaxSessions x", "sshd_config line 3: MaxSessions integer value invalid"},
		{"PermitUserEnvironment A B", invalid + "keyword PermitUserEnvironment extra arguments"},
		{"PasswordAuthentication yes", invalid + "PasswordAuthentication yes is not supported: only public keys are offered: set it to no or remove the line"},
		{"KbdInteractiveAuthentication yes", invalid + "KbdInteractiveAuthentication yes is not supported: only public keys"},
		{"Match User root\nX11Forwarding yes", "sshd_config line 3: X11Forwarding yes is not supported"},
		{"PermitTunnel ethernet", invalid + "PermitTunnel ethernet is not supported"},
		{"PubkeyAuthOptions verify-required", invalid + "PubkeyAuthOptions verify-required is not supported"},
		{"AuthenticationMethods publickey,password", invalid + "AuthenticationMethods publickey,password is not supported"},
		{"Banner \x00", "not a text file"},
	}
	for _, tt := range tests {
		_, err := loadWith("\n"+tt.line+"\n", Overlay{})
		var typed *Error
		if !errors.As(err, &typed) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v\nwant %q", tt.line, err, tt.want)
		}
	}
}

func TestAuthenticationMethods(t *testing.T) {
	for methods, keys := range map[string]int{"any": 0, "publickey": 1, "publickey,publickey": 2, "publickey,publickey,publickey publickey,publickey": 2} {
		s := settings(t, load(t, "AuthenticationMethods "+methods+"\n"), root)
		if s.PublicKeys != keys {
			t.Errorf("%s: %d keys, want %d", methods, s.PublicKeys, keys)
		}
	}
}

func TestCommandLineOptionErrors(t *testing.T) {
	for option, want := range map[string]string{
		"Prot=1":          "command-line: line 0: Bad configuration option: Prot",
		"Match User root": "command-line line 0: Match directive not supported as a command-line option",
		"Include /etc/x":  "command-line line 0: Include directive not supported as a command-line option",
		"UsePAM=yes":      "command-line line 0: UsePAM yes is not supported",
	} {
		if _, err := loadWith("", Overlay{}, "-o", option); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("-o %q: %v, want %q", option, err, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	text := "Compression yes\nAllowTcpForwarding yes\nDisableForwarding yes\nCompression no\nUseLogin no\n" +
		"Ciphers aes256-cbc,aes256-ctr\nMatch User root\nX11UseLocalhost yes\nPasswordAuthentication no\n" +
		"Match all\nPidFile /run/sshd.pid\nPermitUserEnvironment LANG\nLogVerbose kex.c:*\n"
	c := load(t, text, "-u0")
	want := []string{
		"command-line: option -u is ignored",
		"sshd_config line 1: Compression: ignored: data is never compressed",
		"sshd_config line 5: UseLogin: ignored: obsolete in OpenSSH too",
		"sshd_config line 6: Ciphers: aes256-cbc is not supported by this server and left out",
		"sshd_config line 8: X11UseLocalhost: ignored: X11 is not forwarded",
		"sshd_config line 13: LogVerbose: ignored: it names places in OpenSSH's sources",
	}
	if !slices.Equal(c.Warnings(), want) {
		t.Errorf("warnings:\n%s", strings.Join(c.Warnings(), "\n"))
	}
}

func TestAFileIsBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(name, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(CommandLine{ConfigFile: name}, nil, Overlay{}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Error(err)
	}
	if c, err := Load(CommandLine{ConfigFile: "none"}, nil, Overlay{}); err != nil || c.Server().Listen[0] != ":22" {
		t.Errorf("-f none: %v", err)
	}
}
