package sshd

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/sshdconfig"
)

// patience bounds every wait of a test that would otherwise hang.
const patience = 30 * time.Second

// fixed is a configuration without a file.
type fixed struct {
	server   sshdconfig.Server
	settings sshdconfig.Settings
}

func (f *fixed) Server() sshdconfig.Server                              { return f.server }
func (f *fixed) For(sshdconfig.Connection) (sshdconfig.Settings, error) { return f.settings, nil }

// journal is a log that a test can read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// rig is a running server, a key that it accepts and a client's files.
type rig struct {
	*Server
	dir    string
	config *fixed
	key    ssh.Signer
	log    *journal
}

// newKey makes a key pair and writes the private one to file, if it has a name.
func newKey(t *testing.T, file string) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if file != "" {
		block, err := ssh.MarshalPrivateKey(key, "")
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, string(pem.EncodeToMemory(block)), 0o600)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
}

// line is a line of authorized_keys.
func line(options string, key ssh.Signer) string {
	return strings.TrimSpace(options + " " + string(ssh.MarshalAuthorizedKey(key.PublicKey())))
}

// start runs a server with sshd's defaults, which change may alter.
func start(t *testing.T, change func(*rig, *Config)) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: sessions are root's")
	}
	r := &rig{dir: t.TempDir(), log: &journal{}}
	r.key = newKey(t, r.file("id"))
	hostKey := newKey(t, r.file("host_key"))
	write(t, r.file("known_hosts"), "the-server "+line("", hostKey)+"\n", 0o600)
	write(t, r.file("authorized_keys"), line("", r.key)+"\n", 0o600)
	r.config = &fixed{
		server: sshdconfig.Server{
			Listen: []string{"127.0.0.1:0"}, HostKeys: []string{r.file("host_key")},
			LoginGraceTime: patience, MaxStartups: sshdconfig.MaxStartups{Begin: 10, Rate: 30, Full: 100},
		},
		settings: sshdconfig.Settings{
			PermitRootLogin: "yes", PubkeyAuthentication: true, AuthorizedKeysFiles: []string{r.file("authorized_keys")},
			MaxAuthTries: 6, RequiredRSASize: 1024, PermitTTY: true, MaxSessions: 10,
			Subsystems: map[string]string{"sftp": "internal-sftp"},
			SetEnv:     []string{"HOME=" + r.dir}, // else the shell reads this machine's own ~/.bashrc
		},
	}
	config := Config{Settings: r.config, Log: slog.New(slog.NewTextHandler(io.MultiWriter(r.log, t.Output()), nil))}
	if change != nil {
		change(r, &config)
	}
	server, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = server
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Shutdown(context.Background(), "the test is over")
		server.Close()
	})
	return r
}

func (r *rig) file(name string) string { return filepath.Join(r.dir, name) }

// command is an OpenSSH program with options for this server before args.
func (r *rig) command(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("needs %s: %v", program, err)
	}
	_, port, err := net.SplitHostPort(r.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	options := []string{"-F", "none", "-o", "Port=" + port, "-o", "IdentityFile=" + r.file("id"), "-o", "IdentitiesOnly=yes",
		"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=the-server", "-o", "UserKnownHostsFile=" + r.file("known_hosts")}
	return exec.CommandContext(ctx, program, append(options, args...)...)
}

// ssh runs a command on the server with OpenSSH's client.
func (r *rig) ssh(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	return run(t, r.command(t, "ssh", append([]string{"root@127.0.0.1"}, args...)...))
}

func run(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, status int) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// dial connects with Go's client and the given methods.
func (r *rig) dial(user string, methods ...ssh.AuthMethod) (*ssh.Client, error) {
	return ssh.Dial("tcp", r.Addrs()[0].String(), &ssh.ClientConfig{
		User: user, Auth: methods, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: patience,
	})
}

// connect logs root in.
func (r *rig) connect(t *testing.T) *ssh.Client {
	t.Helper()
	client, err := r.dial("root", ssh.PublicKeys(r.key))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// eventually polls for what another goroutine or process brings about.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: not in time", what)
		}
	}
}

func (r *rig) logs(t *testing.T, format string, args ...any) {
	t.Helper()
	want := fmt.Sprintf(format, args...)
	eventually(t, "log line "+want, func() bool { return strings.Contains(r.log.String(), want) })
}
