package sshd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"buildenv/internal/wording"
	"buildenv/sshd/sshdconfig"
)

// gliderlabs/ssh lets everybody in when it has no handler of its own.
func TestNobodyComesInWithoutAKey(t *testing.T) {
	r := start(t, nil)
	for _, methods := range []string{"none", "password", "keyboard-interactive", "hostbased", "none,password,keyboard-interactive"} {
		_, stderr, status := r.ssh(t, "-o", "PreferredAuthentications="+methods, "echo I am in")
		if status != 255 || !strings.Contains(stderr, "Permission denied (publickey)") {
			t.Errorf("%s: status %d, %q", methods, status, stderr)
		}
	}
	if c, err := r.dial("root"); err == nil {
		c.Close()
		t.Error("a client without any method came in")
	}
	if c, err := r.dial("root", ssh.Password("root")); err == nil {
		c.Close()
		t.Error("a client with a password came in")
	}
	if c, err := r.dial("root", ssh.PublicKeys(newKey(t, ""))); err == nil {
		c.Close()
		t.Error("a client with another key came in")
	}
	if out, _, status := r.ssh(t, "echo I am in"); out != "I am in\n" || status != 0 {
		t.Errorf("with the key: %q, %d", out, status)
	}
	r.logs(t, "Accepted publickey for root from 127.0.0.1 port ")
	r.logs(t, " ssh2: ED25519 %s", ssh.FingerprintSHA256(r.key.PublicKey()))
	r.logs(t, "Failed publickey for root from 127.0.0.1 port ")
	r.logs(t, "Disconnected from user root 127.0.0.1 port ")
}

// CVE-2024-45337: what a key may do must not be taken from another key that
// the client merely offered. The client has the public half of the first only.
func TestOptionsBelongToTheKeyThatSigned(t *testing.T) {
	r := start(t, nil)
	signs := newKey(t, r.file("signs"))
	if err := os.Rename(r.file("id"), r.file("elsewhere")); err != nil {
		t.Fatal(err)
	}
	write(t, r.file("id.pub"), line("", r.key)+"\n", 0o600)
	for want, options := range map[string][2]string{
		"free\n": {`command="echo tied"`, ""},
		"tied\n": {"", `command="echo tied"`},
	} {
		write(t, r.file("authorized_keys"), line(options[0], r.key)+"\n"+line(options[1], signs)+"\n", 0o600)
		out, stderr, _ := run(t, r.command(t, "ssh", "-v", "-i", r.file("signs"), "root@127.0.0.1", "echo free"))
		if out != want {
			t.Errorf("options %q: %q, want %q", options, out, want)
		}
		if n := strings.Count(stderr, "Server accepts key"); n != 2 {
			t.Errorf("the client had %d keys accepted, want 2:\n%s", n, stderr)
		}
	}
}

func TestKeyOptions(t *testing.T) {
	r := start(t, func(r *rig, _ *Config) { r.config.settings.PermitUserEnvironment = "COL*" })
	for name, c := range map[string]struct {
		options string
		command string
		want    string // "" for refused
	}{
		"none":          {"", "echo in", "in\n"},
		"from here":     {`from="127.0.0.1,192.0.2.0/24"`, "echo in", "in\n"},
		"from there":    {`from="192.0.2.0/24"`, "echo in", ""},
		"expired":       {`expiry-time="20200101"`, "echo in", ""},
		"not yet":       {`expiry-time="20990101"`, "echo in", "in\n"},
		"command":       {`command="echo forced $SSH_ORIGINAL_COMMAND"`, "echo in", "forced echo in\n"},
		"environment":   {`environment="COLOUR=blue"`, "echo $COLOUR", "blue\n"},
		"not permitted": {`environment="SHAPE=round",environment="COLOUR=blue"`, "echo $SHAPE$COLOUR", "blue\n"},
		"unknown":       {`no-such-option`, "echo in", ""},
		"terminal":      {"", "tty >/dev/null && echo yes || echo no", "no\n"},
		"no terminal":   {"no-pty", "echo in", "in\n"},
		"restrict":      {"restrict", "echo in", "in\n"},
		"authority":     {"cert-authority", "echo in", ""},
		"later line ok": {`from="192.0.2.1" ` + "\x00", "echo in", "in\n"},
	} {
		options, twice := strings.CutSuffix(c.options, " \x00")
		text := line(options, r.key) + "\n"
		if twice {
			text += line("", r.key) + "\n"
		}
		write(t, r.file("authorized_keys"), text, 0o600)
		out, stderr, status := r.ssh(t, c.command)
		if c.want == "" && (status != 255 || !strings.Contains(stderr, "Permission denied")) || out != c.want {
			t.Errorf("%s: %q, status %d, %q", name, out, status, stderr)
		}
	}
	write(t, r.file("authorized_keys"), line("no-pty", r.key), 0o600)
	if _, stderr, _ := r.ssh(t, "-tt", "tty"); !strings.Contains(stderr, "PTY allocation request failed") {
		t.Errorf("no-pty: %q", stderr)
	}
}

func TestWhoMayLogIn(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*sshdconfig.Settings)
		user   string
		reason string // in the log, "" for welcome
	}{
		"root":                  {func(s *sshdconfig.Settings) {}, "root", ""},
		"prohibit-password":     {func(s *sshdconfig.Settings) { s.PermitRootLogin = "prohibit-password" }, "root", ""},
		"no root":               {func(s *sshdconfig.Settings) { s.PermitRootLogin = "no" }, "root", "ROOT LOGIN REFUSED"},
		"forced only":           {func(s *sshdconfig.Settings) { s.PermitRootLogin = "forced-commands-only" }, "root", "no command= option"},
		"no keys for this user": {func(s *sshdconfig.Settings) { s.PubkeyAuthentication = false }, "root", "PubkeyAuthentication is no"},
		"denied":                {func(s *sshdconfig.Settings) { s.DenyUsers = []string{"ro*"} }, "root", "listed in DenyUsers"},
		"not allowed":           {func(s *sshdconfig.Settings) { s.AllowUsers = []string{"admin"} }, "root", "not listed in AllowUsers"},
		"allowed group":         {func(s *sshdconfig.Settings) { s.AllowGroups = []string{"root"} }, "root", ""},
		"denied group":          {func(s *sshdconfig.Settings) { s.DenyGroups = []string{"root"} }, "root", "DenyGroups"},
		"somebody else":         {func(s *sshdconfig.Settings) {}, "nobody", "only root may log in"},
		"nobody known":          {func(s *sshdconfig.Settings) {}, "no-such-user", "Failed publickey for invalid user no-such-user from"},
		"RSA sizes are of RSA":  {func(s *sshdconfig.Settings) { s.RequiredRSASize = 4096 }, "root", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, nil)
			c.change(&r.config.settings)
			client, err := r.dial(c.user, ssh.PublicKeys(r.key))
			if err == nil {
				client.Close()
			}
			if (err == nil) != (c.reason == "") {
				t.Fatalf("log in: %v", err)
			}
			r.logs(t, "%s", c.reason)
		})
	}
}

func TestFilesOfKeys(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, r *rig)
		reason  string
	}{
		"missing":   {func(t *testing.T, r *rig) { os.Remove(r.file("authorized_keys")) }, "no such file"},
		"directory": {func(t *testing.T, r *rig) { r.config.settings.AuthorizedKeysFiles = []string{r.dir} }, "is not a regular file"},
		"writable": {func(t *testing.T, r *rig) {
			r.config.settings.StrictModes = true
			os.Chmod(r.file("authorized_keys"), 0o666)
		}, "bad ownership or modes for file"},
		"not the key": {func(t *testing.T, r *rig) { write(t, r.file("authorized_keys"), line("", newKey(t, "")), 0o600) }, "key is not authorized"},
		"nonsense":    {func(t *testing.T, r *rig) { write(t, r.file("authorized_keys"), "\x00\xff nonsense\n", 0o600) }, "authorized key not used"},
		"second file": {func(t *testing.T, r *rig) {
			r.config.settings.AuthorizedKeysFiles = []string{"/nonexistent/%u", r.file("%%/../authorized_keys"), r.file("authorized_keys")}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, nil)
			c.prepare(t, r)
			client, err := r.dial("root", ssh.PublicKeys(r.key))
			if err == nil {
				client.Close()
			}
			if (err == nil) != (c.reason == "") {
				t.Fatalf("log in: %v", err)
			}
			r.logs(t, "%s", c.reason)
		})
	}
}

func TestStrictModesAcceptAGoodFile(t *testing.T) {
	dir := trusted(t)
	r := start(t, func(r *rig, _ *Config) {
		r.config.settings.StrictModes = true
		r.config.settings.AuthorizedKeysFiles = []string{filepath.Join(dir, "%u_keys")}
		write(t, filepath.Join(dir, "root_keys"), line("", r.key), 0o600)
	})
	r.connect(t)
}

// trusted is a directory whose parents only root may write.
func trusted(t *testing.T) string {
	if os.Geteuid() != 0 {
		t.Skip("needs root to own a path down from /")
	}
	dir, err := os.MkdirTemp("/var/lib", "buildenv-test-")
	if err != nil {
		t.Skipf("needs a directory of root's: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestTooManyKeys(t *testing.T) {
	for tries, keys := range map[int][]ssh.Signer{0: {newKey(t, "")}, 1: {newKey(t, "")}, 2: {newKey(t, ""), newKey(t, "")}} {
		r := start(t, func(r *rig, _ *Config) { r.config.settings.MaxAuthTries = tries })
		_, err := r.dial("root", ssh.PublicKeys(append(keys, r.key)...))
		if err == nil || !strings.Contains(err.Error(), "too many authentication failures") {
			t.Errorf("MaxAuthTries %d: a good key after %d bad ones: %v", tries, len(keys), err)
		}
	}
}

func TestLockedAccount(t *testing.T) {
	r := start(t, func(r *rig, _ *Config) {})
	for entry, welcome := range map[string]bool{
		"root:*:19000:0:99999:7:::": true, "root::19000::::::": true, "toor:!:1::::::": true,
		"root:!:19000:0:99999:7:::": false, "daemon:*:1::::::\nroot:!$6$salt$hash:19000::::::": false,
	} {
		write(t, r.file("shadow"), entry+"\n", 0o600)
		r.shadow = r.file("shadow")
		client, err := r.dial("root", ssh.PublicKeys(r.key))
		if err == nil {
			client.Close()
		}
		if (err == nil) != welcome {
			t.Errorf("%q: %v", entry, err)
		}
	}
	r.logs(t, "account is locked by a ! in %s", r.shadow)
	if locked(r.file("missing"), "root") {
		t.Error("locked without a file")
	}
}

// Whoever connects must not write lines of his own into the log.
func TestNamesInTheLogAreEscaped(t *testing.T) {
	r := start(t, nil)
	if c, err := r.dial("x\nAccepted publickey for root\x1b[2J", ssh.PublicKeys(r.key)); err == nil {
		c.Close()
		t.Fatal("came in")
	}
	r.logs(t, "%s", `Failed publickey for invalid user x\\nAccepted publickey for root\\x1b[2J from`)
	for text, want := range map[string]string{"root": "root", `a "b"`: `a \"b\"`, "é\r\n\u202e": `é\r\n\u202e`, "\xff": `\xff`} {
		if got := wording.Escape(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestUnusableLinesAreToldOnce(t *testing.T) {
	r := start(t, nil)
	write(t, r.file("authorized_keys"), "nonsense\n"+line("", r.key), 0o600)
	client, err := r.dial("root", ssh.PublicKeys(newKey(t, ""), newKey(t, ""), r.key))
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	if n := strings.Count(r.log.String(), "authorized key not used"); n != 1 {
		t.Errorf("told %d times:\n%s", n, r.log)
	}
}

func TestBanner(t *testing.T) {
	r := start(t, func(r *rig, _ *Config) {
		write(t, r.file("banner"), "authorised people only\n", 0o644)
		r.config.settings.Banner = r.file("banner")
	})
	_, stderr, _ := r.ssh(t, "true")
	if !strings.Contains(stderr, "authorised people only") {
		t.Errorf("stderr %q", stderr)
	}
}

func TestFindGroups(t *testing.T) {
	group := "root:x:0:\nbig:x:5:" + strings.Repeat("somebody,", 9000) + "\nwheel:x:10:root,admin\nusers:x:100:admin\nbroken:x\n"
	r := user{known: true}
	r.Name = "root"
	r.groups, _ = findGroups(strings.NewReader(group), r.Account)
	if got := r.groupNames(); strings.Join(got, " ") != "root wheel" || r.groups[1].gid != 10 {
		t.Errorf("groups %v", r.groups)
	}
}

// What is denied to a group that is not seen must not be granted.
func TestFindGroupsRefusesALargeFile(t *testing.T) {
	for _, group := range []string{strings.Repeat("many:x:7:\n", maxText/10+1) + "wheel:x:10:root\n", strings.Repeat("x", maxText+1)} {
		if groups, err := findGroups(strings.NewReader(group), user{}.Account); err == nil {
			t.Errorf("found %v in %d bytes", groups, len(group))
		}
	}
}

func FuzzFindGroups(f *testing.F) {
	f.Add("root:x:0:\nwheel:x:10:root,admin\n")
	f.Fuzz(func(t *testing.T, group string) {
		findGroups(strings.NewReader(group), user{}.Account) // must not panic
	})
}
