package e2e

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
)

// sidecarCommand leaves what a job's sidecar leaves before it says ready: the
// folder ims with sshd_config and authorized_keys, and the variables that the
// pod's template sets.
func sidecarCommand(ts *testscript.TestScript, _ []string) {
	folder := ts.MkAbs("ims")
	ts.Check(os.Mkdir(folder, 0o700))
	key := filepath.Join(folder, "ssh_host_ed25519_key")
	ts.Check(writeKeyPair(key))
	keys := filepath.Join(folder, "authorized_keys")
	public, err := os.ReadFile(ts.Getenv("SSH_KEY") + ".pub")
	ts.Check(err)
	ts.Check(os.WriteFile(keys, public, 0o600))
	config := filepath.Join(folder, "sshd_config")
	ts.Check(os.WriteFile(config, []byte(sidecarConfig(ts.Getenv("SSH_PORT"), keys, key)), 0o600))
	ts.Setenv("SSHD_OPTIONS", "-E "+filepath.Join(folder, "sshd.log")+" -f "+config)
	ts.Setenv("SSHD_CONFIG_FILE", config)
	ts.Setenv("IMS_JOB_ID", "6a1f2c3e-0000-4000-8000-5e55104e0001")
	ts.Setenv("IMAGE_ROOT_PARENT", ts.MkAbs("image"))
	ts.Check(os.MkdirAll(ts.MkAbs("image"), 0o755))
}

// sidecarConfig is today's file; only the addresses and the host key are a test's own.
func sidecarConfig(port, keys, hostKey string) string {
	return fmt.Sprintf(`ListenAddress 127.0.0.1:%s
HostKey %s
LogLevel INFO
PermitRootLogin yes
PubkeyAuthentication yes
AuthorizedKeysFile %s
PasswordAuthentication no
ChallengeResponseAuthentication no
Subsystem sftp internal-sftp
`, port, hostKey, keys)
}
