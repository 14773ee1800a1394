package sftp

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"buildenv/sshd/jail"

	"golang.org/x/sys/unix"
)

// With serverRoot in its environment the test binary is an sftp server
// program, which OpenSSH's client can run (sftp -D).
const (
	serverRoot = "SFTP_TEST_ROOT" // the jail, "/" for none
	serverHome = "SFTP_TEST_HOME"
	serverArgs = "SFTP_TEST_ARGS"
)

const realServer = "/usr/lib/openssh/sftp-server"

func TestMain(m *testing.M) {
	unix.Umask(0o022) // the tests compare modes
	if root, asServer := os.LookupEnv(serverRoot); asServer {
		if err := serveStdio(root); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type stdio struct {
	io.Reader
	io.Writer
}

func serveStdio(root string) error {
	opts, err := ParseOptions(strings.Fields(os.Getenv(serverArgs)))
	if err != nil {
		return err
	}
	opts.Home = os.Getenv(serverHome)
	j, err := jail.Enter(strings.TrimSuffix(root, "/"), 0o022)
	if err != nil {
		return err
	}
	defer j.Close()
	return Serve(context.Background(), stdio{os.Stdin, os.Stdout}, j, opts)
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for chroot and chown")
	}
}

func needTool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
	return path
}

func enter(t testing.TB, dir string) *jail.Jail {
	t.Helper()
	j, err := jail.Enter(dir, 0o022)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

// startServe runs Serve over two pipes and returns a client of it that has
// said hello. The test fails if Serve ends with an error.
func startServe(t testing.TB, j *jail.Jail, opts Options) *client {
	t.Helper()
	fromClient, toServer := pipe(t)
	fromServer, toClient := pipe(t)
	served := make(chan error, 1)
	go func() { served <- Serve(context.Background(), stdio{fromClient, toClient}, j, opts) }()
	t.Cleanup(func() {
		toServer.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return newClient(t, toServer, fromServer)
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// startOpenSSH runs OpenSSH's server in dir, as the yardstick.
func startOpenSSH(t testing.TB, dir string, args ...string) *client {
	t.Helper()
	cmd := exec.Command(needTool(t, realServer), args...)
	cmd.Dir = dir
	return startCommand(t, cmd)
}

// startCommand runs a server and returns a client of it that has said hello.
func startCommand(t testing.TB, cmd *exec.Cmd) *client {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Error(err)
		}
	})
	return newClient(t, in, out)
}
