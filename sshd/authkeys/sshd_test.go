package authkeys

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// TestAgainstSshd asks OpenSSH's sshd for its opinion of a few lines: the
// client speaks to it over a pipe (sshd -i), so that no port is needed.
func TestAgainstSshd(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: sshd logs in as root")
	}
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("needs sshd")
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keygen(t, filepath.Join(dir, "host"))
	text := keygen(t, filepath.Join(dir, "user"))
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("HostKey %s/host\nAuthorizedKeysFile %s/keys\nStrictModes no\nPermitRootLogin yes\nUsePAM no\n", dir, dir)
	write(t, filepath.Join(dir, "config"), config)

	lines := map[string]bool{ // line, with KEY for the key → does it let in?
		"KEY":                               true,
		"Restrict,NO-pty KEY":               true,
		"unheard-of KEY":                    false,
		"pty, KEY":                          true,
		`environment="A B=1" KEY`:           false,
		`permitopen="[::1]:80" KEY`:         true,
		`permitlisten="8080" KEY`:           true,
		`expiry-time="20000101" KEY`:        false,
		`expiry-time="29990101Z" KEY`:       true,
		`principals="a",principals="b" KEY`: false,
		`principals="root" KEY`:             false,
		`cert-authority KEY`:                false,
		`from="192.0.2.1/24" KEY`:           false,
		"expiry-time=\"20000101\" KEY\nKEY": true,
		`command="true" ,pty KEY`:           false,
	}
	for line, want := range lines {
		file := strings.ReplaceAll(line, "KEY", strings.Join(strings.Fields(text)[:2], " ")) + "\n"
		write(t, filepath.Join(dir, "keys"), file)
		client := exec.Command("ssh", "-F", "none", "-i", dir+"/user", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
			"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", fmt.Sprintf("ProxyCommand=%s -i -f %s/config", sshd, dir), "root@test", "true")
		output, err := client.CombinedOutput()
		if theirs := err == nil; theirs != want {
			t.Errorf("sshd and %q: accepted %v\n%s", line, theirs, output)
		}
		entries, problems := Parse(strings.NewReader(file))
		_, err = Authorize(entries, key, Client{User: "root", Host: "UNKNOWN", Now: time.Now()})
		if ours := err == nil; ours != want {
			t.Errorf("%q: accepted %v: %v %v", line, ours, problems, err)
		}
	}
}

// keygen makes a key pair and returns the public key's line.
func keygen(t *testing.T, name string) string {
	t.Helper()
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	line, err := os.ReadFile(name + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return string(line)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
