//go:build pods

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPodOverlay: an init container prepares an image root that is an overlay, and
// no other container sees it: a mount belongs to the container that made it. The
// environment of a job whose sidecar packages the root is refused before anybody
// works in an empty folder. A container that does the whole job mounts the layers
// again, after its death, too.
func TestPodOverlay(t *testing.T) {
	needRoot(t, "podman", "ssh", "sftp", "scp", "dpkg-deb", "unsquashfs")
	debian := debianOrSkip(t)
	image := staticImage(t, buildenv(t))
	v := newOverlayVolume(t, image, debian)

	volume := v.parent + ":/mnt/image:rprivate"
	podman(t, "run", "--rm", "--privileged", "--volume", volume, image, "prepare", "--root-mode", "overlay", "/mnt/image", "/mnt/image/base.sqsh")
	if names, err := os.ReadDir(v.root()); err != nil || len(names) > 0 {
		t.Errorf("outside the init container: %v, %v, want an empty folder", names, err)
	}
	unprivileged := podman(t, "run", "--rm", "--volume", volume, image, "prepare", "--root-mode", "auto", "/mnt/image/other", "/mnt/image/base.sqsh")
	if names, err := os.ReadDir(filepath.Join(v.parent, "other/image-root/etc")); err != nil || len(names) == 0 {
		t.Errorf("unpacked by a container that must not mount, %s: %v, %v", unprivileged, names, err)
	}
	must(t, os.RemoveAll(filepath.Join(v.parent, "other")))

	name := podman(t, "create", "--privileged", "--volume", volume, "--env", "IMS_ACTION=customize", image)
	t.Cleanup(func() { podman(t, "rm", "--force", name) })
	podman(t, "start", name)
	refused := &pod{name: name}
	refused.wantExit(t, "1")
	if logs := refused.logs(t); !strings.Contains(logs, "prepare it with --root-mode unpack, or use the role standalone") {
		t.Errorf("a job with a sidecar is not refused:\n%s", logs)
	}
	v.wantMarkers(t, "failed", "exiting")

	pod := v.start(t, "--privileged", "--env", "SSH_JAIL=True", "--env", "JOB_ENABLE_DKMS=True",
		"--env", "ARTIFACT_STORE=file:///mnt/image/store", "--env", "IMAGE_ROOT_ARCHIVE_NAME=compute")
	pod.scp(t, samplePackage(t), "job:")
	pod.ssh(t, "apt-get install --yes --quiet --quiet -o Dpkg::Use-Pty=0 ./sample.deb && rm sample.deb && rm -r /usr/share/man && useradd --create-home ada")
	pod.kill(t)
	pod.again(t)
	if got, want := pod.ssh(t, "stat --format='%a %U' /usr/bin/sample-helper /var/lib/sample /home/ada/.bashrc; dpkg --audit; test ! -e /usr/share/man"),
		"4755 root\n2750 sample\n644 ada"; got != want {
		t.Errorf("after the restart: %s, want %s", got, want)
	}
	pod.ssh(t, "touch /tmp/complete")
	pod.wantExit(t, "0")
	logs := pod.logs(t)
	if !strings.Contains(logs, "unchanged content was taken over") || !strings.Contains(logs, "compared with the source") {
		t.Errorf("it was packed as any other root:\n%s", logs)
	}
	archives, err := filepath.Glob(filepath.Join(v.parent, "store/boot-images/*/rootfs"))
	must(t, err)
	if len(archives) != 1 {
		t.Fatalf("archives: %q", archives)
	}
	listed := tool(t, "unsquashfs", "-lln", archives[0], "usr/bin/sample-helper", "home/ada", "usr/share/man")
	for _, want := range []string{"-rwsr-xr-x", "home/ada/.bashrc"} {
		if !strings.Contains(listed, want) {
			t.Errorf("no %s in the archive: %s", want, listed)
		}
	}
	if strings.Contains(listed, "usr/share/man") {
		t.Error("what was removed is in the archive")
	}
	if got := tool(t, "losetup", "--associated", filepath.Join(v.parent, ".image-root.source")); got != "" {
		t.Errorf("loop devices are left: %s", got)
	}
}

// newOverlayVolume is a volume with an archive of an image root, without what no
// overlay can show.
func newOverlayVolume(t *testing.T, image, root string) *podVolume {
	t.Helper()
	v := &podVolume{image: image, parent: filepath.Join(workFolder(t), "image"), session: t.TempDir(),
		key: filepath.Join(t.TempDir(), "key"), propagation: "rprivate"}
	must(t, os.Mkdir(v.parent, 0o755))
	tool(t, buildenv(t), "squashfs", "pack", "--compression", "zstd", "--exclude", "opt/quirks/whiteout", root, filepath.Join(v.parent, "base.sqsh"))
	must(t, writeKeyPair(v.key))
	copyFile(t, v.key+".pub", filepath.Join(v.session, "authorized_keys"), 0o600)
	must(t, os.WriteFile(filepath.Join(v.session, "sshd_config"), []byte(podConfig), 0o600))
	return v
}
