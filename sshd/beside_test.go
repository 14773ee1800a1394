package sshd

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"buildenv/sshd/sshdconfig"
)

// beside is OpenSSH's sshd next to ours, with the same configuration and files.
type beside struct {
	*rig
	port int // of OpenSSH's
	log  string
}

// startBoth starts both. In text, DIR stands for the folder of files; it is one
// that StrictModes accepts.
func startBoth(t *testing.T, text string) *beside {
	t.Helper()
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("needs sshd")
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	b := &beside{port: freePort(t)}
	dir := trusted(t)
	text = strings.ReplaceAll(text, "DIR", dir)
	b.rig = start(t, func(r *rig, c *Config) {
		copyKey(t, r.file("host_key"), filepath.Join(dir, "host_key"))
		common := fmt.Sprintf("HostKey %s/host_key\nListenAddress 127.0.0.1\nPidFile none\nPasswordAuthentication no\nSetEnv HOME=%s\n", dir, r.dir)
		if !strings.Contains(text, "AuthorizedKeysFile") {
			text += "\nAuthorizedKeysFile " + dir + "/authorized_keys"
		}
		write(t, filepath.Join(dir, "authorized_keys"), line("", r.key)+"\n", 0o600)
		write(t, filepath.Join(dir, "sshd_config"), common+text+"\n", 0o600)
		config, err := sshdconfig.Load(sshdconfig.CommandLine{}, fmt.Appendf(nil, "%sPort %d\n%s\n", common, freePort(t), text), sshdconfig.Overlay{})
		if err != nil {
			t.Fatal(err)
		}
		c.Settings, r.dir = config, dir
		copyKey(t, filepath.Join(filepath.Dir(r.config.settings.AuthorizedKeysFiles[0]), "id"), r.file("id"))
		write(t, r.file("known_hosts"), "the-server "+publicKey(t, r.file("host_key")), 0o600)
	})
	b.log = b.file("sshd.log")
	daemon := exec.CommandContext(t.Context(), sshd, "-D", "-E", b.log, "-f", b.file("sshd_config"), "-p", fmt.Sprint(b.port))
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { daemon.Process.Kill(); daemon.Wait() })
	eventually(t, "OpenSSH's sshd", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return b
}

func publicKey(t *testing.T, private string) string {
	t.Helper()
	return keygen(t, "-y", "-f", private)
}

func keygen(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ssh-keygen", args...).Output()
	if err != nil {
		t.Fatalf("ssh-keygen %q: %v: %s", args, err, out)
	}
	return string(out)
}

// result is what a client sees.
type result struct {
	out    string
	status int
}

// ask runs the same client against OpenSSH's server and ours.
func (b *beside) ask(t *testing.T, args ...string) (theirs, ours result) {
	t.Helper()
	return b.askTheirs(t, args...), b.askOurs(t, args...)
}

func (b *beside) askOurs(t *testing.T, args ...string) result {
	t.Helper()
	return see(t, "ours", b.command(t, "ssh", append([]string{"root@127.0.0.1"}, args...)...))
}

func (b *beside) askTheirs(t *testing.T, args ...string) result {
	t.Helper()
	cmd := b.command(t, "ssh", append([]string{"root@127.0.0.1"}, args...)...)
	b.toTheirs(cmd)
	return see(t, "theirs", cmd)
}

// toTheirs makes a client go to OpenSSH's server.
func (b *beside) toTheirs(cmd *exec.Cmd) {
	for i, arg := range cmd.Args {
		if strings.HasPrefix(arg, "Port=") {
			cmd.Args[i] = fmt.Sprintf("Port=%d", b.port)
		}
	}
}

func see(t *testing.T, whose string, cmd *exec.Cmd) (r result) {
	t.Helper()
	var stderr string
	r.out, stderr, r.status = run(t, cmd)
	t.Logf("%s: %q, status %d, %s", whose, r.out, r.status, lastLine(stderr))
	return r
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

var portNumber = regexp.MustCompile(`port \d+`)

// said finds the last line of each server's log that has text in it, without
// what differs by chance.
func (b *beside) said(t *testing.T, text string) (theirs, ours string) {
	t.Helper()
	log, err := os.ReadFile(b.log)
	if err != nil {
		t.Fatal(err)
	}
	theirs = lastWith(string(log), text)
	for _, l := range strings.Split(b.rig.log.String(), "\n") {
		_, l, _ = strings.Cut(l, "msg=")
		l, _, _ = strings.Cut(strings.TrimPrefix(l, `"`), `"`)
		if strings.Contains(l, text) {
			ours = l
		}
	}
	return portNumber.ReplaceAllString(theirs, "port P"), portNumber.ReplaceAllString(ours, "port P")
}

func lastWith(log, text string) (found string) {
	for l := range strings.Lines(log) {
		if strings.Contains(l, text) {
			found = string(bytes.TrimSpace([]byte(l)))
		}
	}
	return found
}
