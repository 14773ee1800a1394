package sshd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"buildenv/sshd/sshdconfig"
)

// startAgent runs OpenSSH's agent with one key, and gives its socket and the
// line by which ssh-add lists the key.
func startAgent(t *testing.T) (socket, key string) {
	t.Helper()
	dir := t.TempDir()
	socket = filepath.Join(dir, "agent.sock")
	agent := exec.CommandContext(t.Context(), "ssh-agent", "-D", "-a", socket)
	if err := agent.Start(); err != nil {
		t.Skipf("needs ssh-agent: %v", err)
	}
	t.Cleanup(func() { agent.Process.Kill(); agent.Wait() })
	waitForSocket(t, socket)
	newKey(t, filepath.Join(dir, "key"))
	add := func(args ...string) string {
		cmd := exec.Command("ssh-add", args...)
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		out, errOut, status := run(t, cmd)
		if status != 0 {
			t.Fatalf("ssh-add %q: %s", args, errOut)
		}
		return out
	}
	add(filepath.Join(dir, "key"))
	return socket, add("-l")
}

// withAgent is an ssh that forwards an agent.
func (r *rig) withAgent(t *testing.T, socket string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := r.command(t, "ssh", append([]string{"-A", "-o", "IdentityAgent=" + socket, "root@127.0.0.1"}, args...)...)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	return cmd
}

// agentJail is an image root with what it takes to ask an agent.
func agentJail(t *testing.T) string {
	root := filepath.Join(trusted(t), "image-root")
	for _, program := range []string{"bash", "ssh-add", "stat"} {
		copyProgram(t, root, program)
	}
	for _, dir := range []string{"root", "tmp", "etc", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n", 0o644) // ssh-add asks who it is
	write(t, filepath.Join(root, "dev/null"), "", 0o600)                                    // ssh-add opens it; an image root has no devices
	return root
}

func TestAgentForwarding(t *testing.T) {
	socket, key := startAgent(t)
	for _, jailed := range []bool{false, true} {
		t.Run(names[jailed], func(t *testing.T) {
			r := startForwarding(t, false, func(r *rig, _ *Config) {
				if jailed {
					r.config.settings.ChrootDirectory = agentJail(t)
				}
			})
			out, errOut, status := run(t, r.withAgent(t, socket, "ssh-add -l; ssh-add -l; stat -c %a $SSH_AUTH_SOCK ${SSH_AUTH_SOCK%/*}; echo $SSH_AUTH_SOCK"))
			place := regexp.MustCompile(`\n(/tmp/ssh-[^/]+)/agent\.\d+\n$`).FindStringSubmatch(out)
			if status != 0 || place == nil || !strings.HasPrefix(out, key+key+"600\n700\n") {
				t.Fatalf("status %d, %q, %s", status, out, errOut)
			}
			eventually(t, "the end of the socket", func() bool { _, err := os.Lstat(r.here(place[1])); return err != nil })
			if out, _, _ := r.ssh(t, "echo ${SSH_AUTH_SOCK-none}"); out != "none\n" {
				t.Errorf("a client that lends no agent has %q", out)
			}
		})
	}
}

// The sessions of a connection share a socket, which is there to its end, and no
// longer than to the server's.
func TestAgentOfSeveralSessions(t *testing.T) {
	socket, key := startAgent(t)
	r := startForwarding(t, false, func(r *rig, _ *Config) { r.config.settings.ChrootDirectory = agentJail(t) })
	master := filepath.Join(t.TempDir(), "master.sock")
	r.forward(t, "-M", "-S", master, "-A", "-o", "IdentityAgent="+socket)
	waitFor(t, master)
	ask := func() string {
		cmd := r.withAgent(t, socket, "ssh-add -l && echo $SSH_AUTH_SOCK")
		cmd.Args = append([]string{"ssh", "-S", master}, cmd.Args[1:]...)
		out, errOut, status := run(t, cmd)
		path, found := strings.CutPrefix(out, key)
		if status != 0 || !found {
			t.Fatalf("status %d, %q, %s", status, out, errOut)
		}
		return strings.TrimSpace(path)
	}
	first, second := ask(), ask()
	if first != second {
		t.Errorf("sockets %s and %s", first, second)
	}
	waitFor(t, r.here(first))
	if err := r.Shutdown(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(r.here("/tmp")); err != nil || len(left) > 0 {
		t.Errorf("left in the image root: %v, %v", left, err)
	}
}

func TestAgentForwardingRefused(t *testing.T) {
	socket, _ := startAgent(t)
	for name, c := range map[string]struct {
		options string
		change  func(*sshdconfig.Settings)
	}{
		"no-agent-forwarding":     {"no-agent-forwarding", func(*sshdconfig.Settings) {}},
		"restrict":                {"restrict", func(*sshdconfig.Settings) {}},
		"AllowAgentForwarding no": {"", func(s *sshdconfig.Settings) { s.AllowAgentForwarding = false }},
		"DisableForwarding":       {"", func(s *sshdconfig.Settings) { s.DisableForwarding = true }},
	} {
		audit := &journal{}
		r := startForwarding(t, false, func(r *rig, config *Config) {
			write(t, r.file("authorized_keys"), line(c.options, r.key)+"\n", 0o600)
			c.change(&r.config.settings)
			config.Audit = NewAudit(audit)
		})
		out, errOut, status := run(t, r.withAgent(t, socket, "echo ${SSH_AUTH_SOCK-none}"))
		if out != "none\n" || status != 0 {
			t.Errorf("%s: %q, %s", name, out, errOut)
		}
		if !strings.Contains(audit.String(), `"event":"forward.refused"`) {
			t.Errorf("%s: not in the audit", name)
		}
	}
}
