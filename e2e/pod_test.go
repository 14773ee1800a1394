//go:build pods

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPod is our image as the sshd container of customize jobs, one after the
// other on one Debian root: the parent folder is a volume, port 22 is published.
func TestPod(t *testing.T) {
	needRoot(t, "podman", "ssh", "sftp", "scp", "dpkg-deb")
	image := staticImage(t, buildenv(t))
	t.Run("version", func(t *testing.T) { podVersion(t, image) })
	volume := newVolume(t, image, debianOrSkip(t))
	for _, test := range []struct {
		name string
		run  func(*testing.T, *podVolume)
	}{
		{"complete", podComplete},
		{"failed", podFailed},
		{"stop", podStop},
		{"kill and start", podKilled},
		{"dkms", podDKMS},
		{"no jail", podUnjailed},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, volume) })
	}
}

// podVersion asks the image itself.
func podVersion(t *testing.T, image string) {
	want := tool(t, buildenv(t), "version")
	if got := podman(t, "run", "--rm", image, "version"); got != want {
		t.Errorf("version in the image: %s; of the binary: %s", got, want)
	}
}

// podComplete: an administrator installs a package in the jail, with the
// capabilities that an engine gives by default. The shell is the image root's
// own, as our image has none; it works on a terminal too, and ends with the job.
func podComplete(t *testing.T, v *podVolume) {
	pod := v.start(t, "--env", "SSH_JAIL=True")
	pod.scp(t, samplePackage(t), "job:")
	pod.sftp(t, "mkdir /opt/by-sftp\nchmod 750 /opt/by-sftp\n")
	pod.shell(t, `[ -n "$BASH_VERSION" ]
[ "$(cat /etc/hostname) $PWD" = "debian /root" ]
apt-get install --yes --quiet --quiet -o Dpkg::Use-Pty=0 ./sample.deb
useradd --create-home ada
rm sample.deb
`)
	if got, want := pod.ssh(t, "stat --format='%a %U' /usr/bin/sample-helper /var/lib/sample /home/ada/.bashrc; dpkg --audit"),
		"4755 root\n2750 sample\n644 ada"; got != want {
		t.Errorf("in the jail: %s, want %s", got, want)
	}
	seen, _ := pod.try("ssh", "echo at' 'work on $0\ntouch /tmp/complete\n", "-tt", "job") // hung up: no exit code to want
	for _, want := range []string{"You are jailed in the image root", "at work on -bash", "marked complete: this session ends"} {
		if !strings.Contains(seen, want) {
			t.Errorf("the terminal shows %q, want %q in it", seen, want)
		}
	}
	pod.wantExit(t, "0")
	v.wantMarkers(t, "ready", "exiting")
}

// podFailed: exit code 0 as well, and the marker stays for the sidecar.
func podFailed(t *testing.T, v *podVolume) {
	pod := v.start(t, "--env", "SSH_JAIL=True")
	pod.ssh(t, "touch /tmp/failed")
	pod.wantExit(t, "0")
	v.wantMarkers(t, "ready", "exiting", "image-root/tmp/failed")
}

// podStop: the engine's SIGTERM ends the job in order, with a user inside, long
// before the engine loses its patience.
func podStop(t *testing.T, v *podVolume) {
	pod := v.start(t, "--env", "SSH_JAIL=True")
	left := make(chan string, 1)
	go func() {
		said, _ := pod.try("ssh", "", "-tt", "job", "echo at' 'work; touch /tmp/inside; exec sleep 1000")
		left <- said
	}()
	must(t, poll(func() bool { return v.has("image-root/tmp/inside") }))
	begin := time.Now()
	podman(t, "stop", "--time", "25", pod.name)
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("podman stop took %s, want 20s at most", took)
	}
	if said := <-left; !strings.Contains(said, "at work") || !strings.Contains(said, "the build environment stops") {
		t.Errorf("the user was told %q", said)
	}
	pod.wantExit(t, "1")
	v.wantMarkers(t, "ready", "exiting", "failed", "image-root/tmp/failed")
	must(t, os.Remove(filepath.Join(v.root(), "tmp/inside")))
}

// podKilled: a container that dies and is started again goes on with the session.
func podKilled(t *testing.T, v *podVolume) {
	pod := v.start(t, "--env", "SSH_JAIL=True")
	pod.ssh(t, "echo kept > /etc/kept")
	pod.kill(t)
	v.wantMarkers(t, "ready")
	pod.again(t)
	if got := pod.ssh(t, "cat /etc/kept"); got != "kept" {
		t.Errorf("after the restart the user reads %q", got)
	}
	if logs := pod.logs(t); !strings.Contains(logs, "continuing the session") {
		t.Errorf("the second life does not say that it continues:\n%s", logs)
	}
	pod.ssh(t, "buildenv complete")
	pod.wantExit(t, "0")
	v.wantMarkers(t, "ready", "exiting")
}

// podDKMS: what a privileged job mounts in the image root, and its user after
// it, is gone with the job, even when the container was killed in between. The
// volume is shared so that this machine sees the mounts.
func podDKMS(t *testing.T, v *podVolume) {
	v.share(t)
	pod := v.start(t, "--env", "SSH_JAIL=True", "--env", "JOB_ENABLE_DKMS=True", "--privileged")
	pod.ssh(t, "mountpoint --quiet /proc && mountpoint --quiet /sys && [ -c /dev/null ] && mount -t tmpfs none /mnt")
	v.wantMounted(t, "dev", "mnt", "proc", "sys")
	pod.kill(t)
	v.wantMounted(t, "dev", "mnt", "proc", "sys")
	pod.again(t)
	pod.ssh(t, "grep --quiet proc /proc/mounts && ! mountpoint --quiet /mnt")
	v.wantMounted(t, "dev", "proc", "sys")
	pod.ssh(t, "touch /tmp/complete")
	pod.wantExit(t, "0")
	v.wantMarkers(t, "ready", "exiting")
	v.wantMounted(t)
}

// podUnjailed: the image has no shell and no account file. Files go in by sftp
// and scp, the job is ended by the server's own command.
func podUnjailed(t *testing.T, v *podVolume) {
	pod := v.start(t, "--env", "SSH_JAIL=False")
	if said, err := pod.try("ssh", "", "job", "true"); err == nil || !strings.Contains(said, "there is no shell") {
		t.Errorf("a command: %v: %q, want a word about the shell", err, said)
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte("sent\n"), 0o640))
	pod.sftp(t, "put "+file+" /mnt/image/image-root/srv/by-sftp\nchmod 604 /mnt/image/image-root/srv/by-sftp\n")
	pod.scp(t, "-p", file, "job:/mnt/image/image-root/srv/by-scp")
	pod.scp(t, "job:/mnt/image/image-root/etc/hostname", file)
	for _, want := range []string{"by-sftp 604 0", "by-scp 640 0"} {
		name, _, _ := strings.Cut(want, " ")
		if got := name + " " + tool(t, "stat", "--format=%a %u", filepath.Join(v.root(), "srv", name)); got != want {
			t.Errorf("sent: %s, want %s", got, want)
		}
	}
	if got := tool(t, "cat", file); got != "debian" {
		t.Errorf("fetched %q", got)
	}
	if got := pod.ssh(t, "buildenv complete"); !strings.Contains(got, "marked complete") {
		t.Errorf("buildenv complete: %q", got)
	}
	pod.wantExit(t, "0")
	v.wantMarkers(t, "ready", "exiting")
}
