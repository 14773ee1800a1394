package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
)

// setUpSSH gives a script its key, its port and a client configuration that
// knows both, so that a script's ssh, scp and sftp read as a user's do.
func setUpSSH(env *testscript.Env) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	folder := filepath.Join(env.WorkDir, ".ssh")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return err
	}
	key := filepath.Join(folder, "id_ed25519")
	if err := writeKeyPair(key); err != nil {
		return err
	}
	config := filepath.Join(folder, "config")
	env.Setenv("SSH_KEY", key)
	env.Setenv("SSH_PORT", port)
	env.Setenv("SSH_CONFIG", config)
	return os.WriteFile(config, []byte(clientConfig(port, key)), 0o600)
}

// clientConfig never asks and never remembers. The known hosts are nowhere
// because every script's server has keys of its own.
func clientConfig(port, key string) string {
	return fmt.Sprintf(`Host job
	HostName 127.0.0.1
	Port %s
	User root
Host *
	IdentityFile "%s"
	IdentitiesOnly yes
	BatchMode yes
	StrictHostKeyChecking no
	UserKnownHostsFile /dev/null
	LogLevel ERROR
	ConnectTimeout 10
`, port, key)
}

func writeKeyPair(private string) error {
	publicKey, privateKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(privateKey, "e2e")
	if err != nil {
		return err
	}
	if err := os.WriteFile(private, pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	public, err := ssh.NewPublicKey(publicKey)
	if err != nil {
		return err
	}
	return os.WriteFile(private+".pub", ssh.MarshalAuthorizedKey(public), 0o600)
}
