//go:build pods

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// podVolume is what the containers of a job share, with the image that is to be
// the build environment and a user's key.
type podVolume struct {
	image       string // of the container
	parent      string // the image root's, /mnt/image in the container
	session     string // /etc/cray/ims in the container
	key         string
	propagation string // of the parent's mounts
}

// newVolume is a volume with a copy of an image root, and with the files that a
// sidecar would leave.
func newVolume(t *testing.T, image, root string) *podVolume {
	t.Helper()
	v := &podVolume{image: image, parent: filepath.Join(workFolder(t), "image"), session: t.TempDir(),
		key: filepath.Join(t.TempDir(), "key"), propagation: "rprivate"}
	must(t, os.Mkdir(v.parent, 0o755))
	tool(t, "cp", "-a", "--reflink=auto", root, v.root())
	must(t, writeKeyPair(v.key))
	copyFile(t, v.key+".pub", filepath.Join(v.session, "authorized_keys"), 0o600)
	must(t, os.WriteFile(filepath.Join(v.session, "sshd_config"), []byte(podConfig), 0o600))
	return v
}

// podConfig is the configuration that a sidecar would hand the server.
const podConfig = `Port 22
PermitRootLogin yes
PubkeyAuthentication yes
AuthorizedKeysFile /etc/cray/ims/authorized_keys
PasswordAuthentication no
Subsystem sftp internal-sftp
`

func (v *podVolume) root() string { return filepath.Join(v.parent, "image-root") }

// podMarkers are all that a job may leave, below the parent.
var podMarkers = []string{"ready", "complete", "exiting", "failed", "image-root/tmp/complete", "image-root/tmp/failed"}

func (v *podVolume) has(name string) bool {
	_, err := os.Lstat(filepath.Join(v.parent, name))
	return err == nil
}

// wantMarkers wants these markers and no others.
func (v *podVolume) wantMarkers(t *testing.T, want ...string) {
	t.Helper()
	for _, marker := range podMarkers {
		if has := v.has(marker); has != slices.Contains(want, marker) {
			t.Errorf("marker %s is there: %t, want %t", marker, has, !has)
		}
	}
}

// share makes this machine see what a container mounts in the parent, as a
// volume with bidirectional mount propagation does (mount_namespaces(7)).
func (v *podVolume) share(t *testing.T) {
	t.Helper()
	must(t, unix.Mount(v.parent, v.parent, "", unix.MS_BIND, ""))
	v.propagation = "rshared"
	t.Cleanup(func() {
		v.propagation = "rprivate"
		if err := unix.Unmount(v.parent, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", v.parent, err)
		}
	})
	must(t, unix.Mount("", v.parent, "", unix.MS_SHARED, ""))
}

// wantMounted wants mounts on these directories of the image root, in the order
// of their names, and no others, as this machine sees them.
func (v *podVolume) wantMounted(t *testing.T, want ...string) {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(v.root()))
	must(t, err)
	var got []string
	for _, mount := range mounts {
		got = append(got, strings.TrimPrefix(mount.Mountpoint, v.root()+"/"))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("mounted in the image root: %q, want %q", got, want)
	}
}

// start clears the markers and says ready, as a sidecar does, and runs the
// container of a customize job until it serves. It is gone after the test.
func (v *podVolume) start(t *testing.T, options ...string) *pod {
	t.Helper()
	for _, marker := range podMarkers {
		must(t, os.RemoveAll(filepath.Join(v.parent, marker)))
	}
	must(t, os.WriteFile(filepath.Join(v.parent, "ready"), nil, 0o644))
	port, err := freePort()
	must(t, err)
	args := []string{"run", "--detach", "--publish", "127.0.0.1:" + port + ":22",
		"--volume", v.parent + ":/mnt/image:" + v.propagation, "--volume", v.session + ":/etc/cray/ims",
		"--env", "IMS_ACTION=customize", "--env", "IMS_JOB_ID=e2e",
		"--env", "SSHD_CONFIG_FILE=/etc/cray/ims/sshd_config",
		"--env", "SSHD_OPTIONS=-f /etc/cray/ims/sshd_config"}
	id := podman(t, append(append(args, options...), v.image)...)
	t.Cleanup(func() { podman(t, "rm", "--force", "--volumes", "--time", "5", id) })
	p := &pod{client: newClient(t, v.key, port), name: id, address: "127.0.0.1:" + port}
	p.waitServing(t)
	return p
}

// pod is a container of our image, with its user.
type pod struct {
	client
	name    string
	address string // where its port 22 is published
}

func (p *pod) waitServing(t *testing.T) {
	t.Helper()
	if err := poll(func() bool { return banner(p.address) }); err != nil {
		t.Fatalf("no SSH server at %s: %v\n%s", p.address, err, p.logs(t))
	}
}

// kill ends the container as a machine's death would.
func (p *pod) kill(t *testing.T) {
	t.Helper()
	podman(t, "kill", "--signal", "KILL", p.name)
	p.wantExit(t, "137")
}

// again starts the same container anew.
func (p *pod) again(t *testing.T) {
	t.Helper()
	podman(t, "start", p.name)
	p.waitServing(t)
}

// wantExit waits for the container's end.
func (p *pod) wantExit(t *testing.T, want string) {
	t.Helper()
	if code := podman(t, "wait", p.name); code != want {
		t.Errorf("exit code %s, want %s\n%s", code, want, p.logs(t))
	}
}

func (p *pod) logs(t *testing.T) string {
	t.Helper()
	return podman(t, "logs", p.name)
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
	must(t, os.Mkdir(filepath.Join(files, "bin"), 0o755))
	copyFile(t, binary, filepath.Join(files, "bin", "buildenv-"+runtime.GOARCH), 0o755)

	image := fmt.Sprintf("localhost/buildenv-e2e:%d", os.Getpid())
	podman(t, "build", "--quiet", "--layers=false", "--target", "static", "-t", image, files)
	t.Cleanup(func() { podman(t, "rmi", "--force", image) })
	return image
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	content, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, content, mode))
}

// podmanTime bounds each call: a container that does not end is a failure, not
// a test that hangs.
const podmanTime = 2 * time.Minute

// podman runs podman and returns its standard output without white space around
// it, for logs both outputs.
func podman(t *testing.T, args ...string) string {
	t.Helper()
	config, err := filepath.Abs("containers.conf")
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), podmanTime)
	defer cancel()
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, "podman", args...)
	command.Env = append(os.Environ(), "CONTAINERS_CONF="+config)
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("podman %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	if args[0] == "logs" {
		stdout.Write(stderr.Bytes())
	}
	return strings.TrimSpace(stdout.String())
}
