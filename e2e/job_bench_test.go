package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// program is the command line of a build environment.
type program []string

// job is a customize job with a program as its build environment.
type job struct {
	parent  string // the image root's
	session string // the folder that the sidecar shares with the program
	address string // of the SSH server
	command *exec.Cmd
	watch   *fsnotify.Watcher // on both folders
}

// startJob starts a program in folder as the sidecar and the pod would, before
// ready. The program sees hostKeys as its /etc/ssh.
func startJob(p program, folder, hostKeys string) (*job, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	j := &job{parent: filepath.Join(folder, "image"), session: filepath.Join(folder, "ims"), address: "127.0.0.1:" + port}
	if err := j.prepare(port); err != nil {
		return nil, err
	}
	if j.watch, err = fsnotify.NewWatcher(); err != nil {
		return nil, err
	}
	if err := errors.Join(j.watch.Add(j.parent), j.watch.Add(j.session), j.start(p, hostKeys)); err != nil {
		j.watch.Close()
		return nil, err
	}
	return j, nil
}

// startServing starts a program with ready in place and waits until users can
// connect and it waits for their verdict.
func startServing(p program, folder, hostKeys string) (*job, error) {
	j, err := startJob(p, folder, hostKeys)
	if err != nil {
		return nil, err
	}
	_, err = j.mark("ready")
	if err == nil {
		err = j.waitsFor("the user's verdict")
	}
	if err == nil {
		_, err = j.until("a banner", j.greets)
	}
	if err != nil {
		j.stop()
		return nil, err
	}
	return j, nil
}

// serveBoth starts our server and OpenSSH's, with the same host keys.
func serveBoth(b *testing.B) (both [2]*job) {
	b.Helper()
	ours, theirs := programs(b)
	hostKeys := b.TempDir()
	makeHostKeys(b, hostKeys)
	for i, p := range []program{ours, theirs} {
		j, err := startServing(p, b.TempDir(), hostKeys)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(j.stop)
		both[i] = j
	}
	return both
}

// prepare writes what the sidecar writes, and what a client needs.
func (j *job) prepare(port string) error {
	key, keys := j.file("client_key"), j.file("client_key.pub")
	config := fmt.Sprintf(benchConfig, port, keys)
	return errors.Join(
		os.Mkdir(j.parent, 0o755),
		os.Mkdir(j.session, 0o700),
		j.writeAccounts(),
		writeKeyPair(key),
		os.WriteFile(j.file("sshd_config"), []byte(config), 0o600),
		os.WriteFile(j.file("client_config"), []byte(clientConfig(port, key)), 0o600))
}

// writeAccounts writes a passwd file in which root has an empty home.
func (j *job) writeAccounts() error {
	accounts, err := accountsWithHome(j.file("home"))
	if err != nil {
		return err
	}
	return errors.Join(os.Mkdir(j.file("home"), 0o700), os.WriteFile(j.file("passwd"), accounts, 0o644))
}

// accountsWithHome are this machine's, with another home for root: what a shell
// reads at its start in the real one is not to be measured.
func accountsWithHome(home string) ([]byte, error) {
	accounts, err := os.ReadFile("/etc/passwd")
	root := regexp.MustCompile(`(?m)^(root:(?:[^:]*:){4})[^:]*`)
	return root.ReplaceAll(accounts, []byte("${1}"+home)), err
}

// benchConfig is the sidecar's; it names no host keys, so that the default ones are meant.
const benchConfig = `ListenAddress 127.0.0.1:%s
LogLevel INFO
PermitRootLogin yes
PubkeyAuthentication yes
AuthorizedKeysFile %s
PasswordAuthentication no
ChallengeResponseAuthentication no
Subsystem sftp internal-sftp
`

// start runs the program in a mount namespace of its own, with its own host
// keys and accounts in the place of this machine's.
func (j *job) start(p program, hostKeys string) error {
	output, err := os.Create(j.file("output"))
	if err != nil {
		return err
	}
	defer output.Close()
	const inNamespace = `mount --bind "$0" /etc/ssh && mount --bind "$1" /etc/passwd && shift && exec "$@"`
	j.command = exec.Command("unshare", append([]string{"--mount", "sh", "-c", inNamespace, hostKeys, j.file("passwd")}, p...)...)
	j.command.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"IMS_ACTION=customize",
		"IMS_JOB_ID=6a1f2c3e-0000-4000-8000-5e55104e0001",
		"IMAGE_ROOT_PARENT=" + j.parent,
		"SSHD_CONFIG_FILE=" + j.file("sshd_config"),
		"SSHD_OPTIONS=-E " + j.file("sshd.log") + " -f " + j.file("sshd_config"),
	}
	j.command.Stdout, j.command.Stderr = output, output
	j.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return j.command.Start()
}

// stop ends the program and all that it has started in its process group.
func (j *job) stop() {
	unix.Kill(-j.command.Process.Pid, unix.SIGTERM)
	j.command.Wait()
	j.watch.Close()
}

func (j *job) file(name string) string { return filepath.Join(j.session, name) }

// mark creates a marker and returns the moment before.
func (j *job) mark(name string) (time.Time, error) {
	before := time.Now()
	return before, os.WriteFile(filepath.Join(j.parent, name), nil, 0o644)
}

func (j *job) has(name string) bool {
	_, err := os.Lstat(filepath.Join(j.parent, name))
	return err == nil
}

// waitsFor returns when the program has said that it waits for something.
func (j *job) waitsFor(what string) error {
	_, err := j.until(what, func() bool {
		said, err := os.ReadFile(j.file("output"))
		return err == nil && bytes.Contains(said, []byte("waiting for "+what))
	})
	return err
}

// until returns the moment at which done was first seen to hold. It asks at
// once, and then whenever something happens in the job's folders: a server
// writes its log when it listens.
func (j *job) until(what string, done func() bool) (time.Time, error) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for !done() {
		select {
		case <-j.watch.Events:
		case err := <-j.watch.Errors:
			return time.Time{}, err
		case <-limit.C:
			said, _ := os.ReadFile(j.file("output"))
			return time.Time{}, fmt.Errorf("%s: not within %s; the program said:\n%s", what, patience, said)
		}
	}
	return time.Now(), nil
}

// greets tells whether a byte of a banner comes from the server's port.
func (j *job) greets() bool {
	conn, err := net.Dial("tcp", j.address)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	n, _ := conn.Read(make([]byte, 1))
	return n == 1
}

// login is how long a client takes to connect, run true and leave.
func (j *job) login() (time.Duration, error) {
	client := j.ssh("job", "true")
	start := time.Now()
	out, err := client.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("ssh: %w\n%s", err, out)
	}
	return time.Since(start), nil
}

func (j *job) ssh(args ...string) *exec.Cmd {
	return exec.Command("ssh", append([]string{"-F", j.file("client_config")}, args...)...)
}

// openTerminal logs in as a user who then thinks. leave ends the client.
func (j *job) openTerminal() (leave func(), err error) {
	client := j.ssh("-tt", "job")
	input, err := client.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := client.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := client.Start(); err != nil {
		return nil, err
	}
	leave = func() {
		client.Process.Kill()
		client.Wait()
	}
	// The quotes make the answer differ from the terminal's echo of the question.
	_, err = io.WriteString(input, "echo at' 'work\n")
	if err == nil {
		err = readPast(output, "at work")
	}
	if err != nil {
		leave()
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	go io.Copy(io.Discard, output) // ends with the client
	return leave, nil
}

// readPast reads until text has come.
func readPast(r io.Reader, text string) error {
	var seen strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(seen.String(), text); seen.Write(b) {
		if _, err := r.Read(b); err != nil {
			return fmt.Errorf("%w after %q", err, seen.String())
		}
	}
	return nil
}
