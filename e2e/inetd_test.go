package e2e

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// inetd runs "buildenv sshd -i" as inetd does, with one socket as all three of its
// streams, and returns the client's end.
func inetd(t *testing.T, config string) (net.Conn, *exec.Cmd) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	server, client := os.NewFile(uintptr(fds[0]), "server"), os.NewFile(uintptr(fds[1]), "client")
	defer client.Close()
	defer server.Close()
	command := exec.Command(buildenv(t), "sshd", "-i", "-f", config)
	command.Env = append(os.Environ(), "GOCOVERDIR="+os.Getenv(coverFolder))
	command.Stdin, command.Stdout, command.Stderr = server, server, server
	must(t, command.Start())
	t.Cleanup(func() { command.Process.Kill() })
	conn, err := net.FileConn(client)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn, command
}

// TestInetdSocket: a client sees the protocol and nothing else, whatever goes wrong.
func TestInetdSocket(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	hostKey, key, config := filepath.Join(dir, "host_key"), filepath.Join(dir, "key"), filepath.Join(dir, "config")
	must(t, writeKeyPair(hostKey))
	must(t, writeKeyPair(key))
	text := "HostKey " + hostKey + "\nAuthorizedKeysFile " + key + ".pub\nStrictModes no\nPrintMotd no\nLogVerbose *\n"
	must(t, os.WriteFile(config, []byte(text), 0o600))

	conn, command := inetd(t, config)
	private, err := os.ReadFile(key)
	must(t, err)
	signer, err := ssh.ParsePrivateKey(private)
	must(t, err)
	c, channels, requests, err := ssh.NewClientConn(conn, "", &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		BannerCallback: func(string) error { return nil },
	})
	must(t, err)
	client := ssh.NewClient(c, channels, requests)
	session, err := client.NewSession()
	must(t, err)
	out, err := session.Output("echo by socket")
	if err != nil || strings.TrimSpace(string(out)) != "by socket" {
		t.Errorf("%q, %v", out, err)
	}
	client.Close()
	if err := command.Wait(); err != nil {
		t.Errorf("the server: %v", err)
	}

	must(t, os.WriteFile(config, []byte("Foo bar\n"), 0o600))
	conn, command = inetd(t, config)
	if said, err := io.ReadAll(conn); len(said) > 0 || err != nil {
		t.Errorf("with a mistake in the configuration the client was sent %q, %v", said, err)
	}
	if err := command.Wait(); command.ProcessState.ExitCode() != 1 {
		t.Errorf("with a mistake in the configuration: %v", err)
	}
}
