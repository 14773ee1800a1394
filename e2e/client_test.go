package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// client is a user with a key, who works on a job with OpenSSH's programs.
type client struct {
	config string // an ssh_config in which the host "job" is the job
}

// newClient is a client of the server at that port of this machine.
func newClient(t *testing.T, key, port string) client {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config")
	must(t, os.WriteFile(config, []byte(clientConfig(port, key)), 0o600))
	return client{config}
}

// try runs ssh, scp or sftp with input on its stdin.
func (c client) try(program, input string, args ...string) (output string, err error) {
	command := exec.Command(program, append([]string{"-F", c.config}, args...)...)
	command.Stdin = strings.NewReader(input)
	out, err := command.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (c client) run(t *testing.T, program, input string, args ...string) string {
	t.Helper()
	out, err := c.try(program, input, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

// ssh runs a command in the job and returns what it printed.
func (c client) ssh(t *testing.T, command string) string {
	t.Helper()
	return c.run(t, "ssh", "", "job", command)
}

// shell logs in without a command, so that the account's own shell reads the
// lines. The first that fails ends it.
func (c client) shell(t *testing.T, lines string) string {
	t.Helper()
	return c.run(t, "ssh", "set -ex\n"+lines, "job")
}

// sftp runs a batch of sftp's commands.
func (c client) sftp(t *testing.T, batch string) {
	t.Helper()
	c.run(t, "sftp", batch, "-b", "-", "job")
}

// scp copies as the arguments say; "job:" begins a path in the job.
func (c client) scp(t *testing.T, args ...string) {
	t.Helper()
	c.run(t, "scp", "", args...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// needRoot skips the test for anybody else, and without the tools.
func needRoot(t *testing.T, tools ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("chroot, owners and mounts need root")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s; try: tools/setup e2e pods", tool)
		}
	}
}

// tool runs a program of this machine, our own among them, and returns what it printed.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	command := exec.Command(name, args...)
	command.Env = append(os.Environ(), "GOCOVERDIR="+os.Getenv(coverFolder))
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
