package sshd

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"buildenv/sshd/sshdconfig"
)

// TestConfigurationOfAJob goes the whole way from the file that the sidecar
// writes, and what a job adds to it, to what its user sees.
func TestConfigurationOfAJob(t *testing.T) {
	r := start(t, func(r *rig, c *Config) {
		text := fmt.Appendf(nil, `Port %d
ListenAddress 127.0.0.1
LogLevel INFO
PermitRootLogin yes
PubkeyAuthentication yes
AuthorizedKeysFile %s
StrictModes no
PasswordAuthentication no
ChallengeResponseAuthentication no
Subsystem sftp internal-sftp
SetEnv HOME=%s SITE=yes
Match Address 192.0.2.0/24
	ForceCommand echo elsewhere
Match User root
	AcceptEnv LC_*
	ForceCommand none
`, freePort(t), r.file("authorized_keys"), r.dir)
		overlay := sshdconfig.Overlay{SetEnv: []string{"IMS_JOB_ID=6f2c", "IMS_ARCH=aarch64"}}
		config, err := sshdconfig.Load(sshdconfig.CommandLine{}, text, overlay)
		if err != nil {
			t.Fatal(err)
		}
		c.Settings, c.HostKeyDir = config, r.dir
		for _, k := range keyKinds { // all there, so that none is still being made when the test ends
			copyKey(t, r.file("host_key"), r.file(k.file))
		}
	})
	cmd := r.command(t, "ssh", "-o", "SendEnv=LC_* OTHER", "root@127.0.0.1",
		"echo $IMS_JOB_ID $IMS_ARCH $SITE $LC_NAME $OTHER")
	cmd.Env = append(cmd.Environ(), "LC_NAME=C", "OTHER=refused")
	out, stderr, status := run(t, cmd)
	if out != "6f2c aarch64 yes C\n" || status != 0 {
		t.Errorf("%q, status %d, %s", out, status, stderr)
	}
	r.logs(t, "Server listening on 127.0.0.1 port %s.", strings.TrimPrefix(r.Addrs()[0].String(), "127.0.0.1:"))
}

func copyKey(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(text), 0o600)
}

// freePort is one that nobody listened on a moment ago: a configuration file cannot ask for any port.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
