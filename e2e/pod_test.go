//go:build pods

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestImage asks the image itself for its version.
func TestImage(t *testing.T) {
	binary := buildenv(t)
	image := staticImage(t, binary)
	want, err := exec.Command(binary, "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := podman(t, "run", "--rm", image, "version"); got != strings.TrimSpace(string(want)) {
		t.Errorf("version in the image: %s; of the binary: %s", got, want)
	}
}

// TestCustomizeJob is the sshd container of a customize job, alone: the parent
// folder is a volume, port 22 is published, and the user works in the jail.
func TestCustomizeJob(t *testing.T) {
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("no ssh; try: tools/setup e2e")
	}
	image := staticImage(t, buildenv(t))
	parent, session := t.TempDir(), t.TempDir()
	key := filepath.Join(t.TempDir(), "key")
	for _, err := range []error{
		miniRootFS(filepath.Join(parent, "image-root")),
		writeKeyPair(key),
		os.WriteFile(filepath.Join(session, "sshd_config"), []byte(podConfig), 0o600),
		os.WriteFile(filepath.Join(parent, "ready"), nil, 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, key+".pub", filepath.Join(session, "authorized_keys"), 0o600)

	pod := startPod(t, image, parent, session)
	if err := poll(func() bool { return banner(pod.address) }); err != nil {
		t.Fatalf("no SSH server at %s: %v\n%s", pod.address, err, pod.logs(t))
	}
	if got := pod.ssh(t, key, "cat /etc/hostname && touch /tmp/complete"); got != "mini" {
		t.Errorf("the session saw the host name %q, want the image root's", got)
	}
	if code := podman(t, "wait", pod.name); code != "0" {
		t.Errorf("exit code %s, want 0\n%s", code, pod.logs(t))
	}
	if _, err := os.Stat(filepath.Join(parent, "exiting")); err != nil {
		t.Error(err)
	}
}

// podConfig is the configuration that a sidecar would hand the server.
const podConfig = `Port 22
PermitRootLogin yes
PubkeyAuthentication yes
AuthorizedKeysFile /etc/cray/ims/authorized_keys
PasswordAuthentication no
Subsystem sftp internal-sftp
`

// pod is a running container of our image.
type pod struct {
	name    string
	address string // where its port 22 is published
}

// startPod runs the image as a customize job's sshd container, with the
// capabilities that the engine gives by default. It is gone after the test.
func startPod(t *testing.T, image, parent, session string) pod {
	t.Helper()
	id := podman(t, "run", "--detach", "--publish", "127.0.0.1::22",
		"--volume", parent+":/mnt/image", "--volume", session+":/etc/cray/ims",
		"--env", "IMS_ACTION=customize", "--env", "IMS_JOB_ID=e2e", "--env", "SSH_JAIL=True",
		"--env", "SSHD_CONFIG_FILE=/etc/cray/ims/sshd_config",
		"--env", "SSHD_OPTIONS=-f /etc/cray/ims/sshd_config",
		image)
	t.Cleanup(func() { podman(t, "rm", "--force", "--time", "5", id) })
	p := pod{name: id, address: podman(t, "port", id, "22/tcp")}
	if p.address == "" {
		t.Fatalf("the container does not run\n%s", p.logs(t))
	}
	return p
}

func (p pod) logs(t *testing.T) string {
	t.Helper()
	logs, err := exec.Command("podman", "logs", p.name).CombinedOutput()
	if err != nil {
		t.Errorf("podman logs: %v", err)
	}
	return string(logs)
}

func (p pod) ssh(t *testing.T, key, command string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(p.address)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(config, []byte(clientConfig(port, key)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh", "-F", config, "job", command).CombinedOutput()
	if err != nil {
		t.Fatalf("ssh: %v\n%s\n%s", err, out, p.logs(t))
	}
	return strings.TrimSpace(string(out))
}

// banner tells whether an SSH server greets at address. That the port accepts
// says nothing: it is the container engine that listens there.
func banner(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "SSH-2.0-")
}

// staticImage builds the image of the Dockerfile around binary and returns its
// name. The image goes when the test ends.
func staticImage(t *testing.T, binary string) string {
	t.Helper()
	files := t.TempDir()
	copyFile(t, "../Dockerfile", filepath.Join(files, "Dockerfile"), 0o644)
	copyFile(t, "../.dockerignore", filepath.Join(files, ".dockerignore"), 0o644)
	if err := os.Mkdir(filepath.Join(files, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	copyFile(t, binary, filepath.Join(files, "bin", "buildenv-"+runtime.GOARCH), 0o755)

	image := fmt.Sprintf("localhost/buildenv-e2e:%d", os.Getpid())
	podman(t, "build", "--quiet", "--layers=false", "--target", "static", "-t", image, files)
	t.Cleanup(func() { podman(t, "rmi", "--force", image) })
	return image
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, mode); err != nil {
		t.Fatal(err)
	}
}

// podman runs podman and returns its standard output without white space around it.
func podman(t *testing.T, args ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("podman is given root's images, networks and mounts here")
	}
	if _, err := exec.LookPath("podman"); err != nil {
		t.Skip("no podman; try: tools/setup pods")
	}
	config, err := filepath.Abs("containers.conf")
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	command := exec.Command("podman", args...)
	command.Env = append(os.Environ(), "CONTAINERS_CONF="+config)
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("podman %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}
