package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"buildenv/internal/treediff"
)

// TestDebianSources: whatever a Debian root is kept in, the image root made of
// it is that root, to the nanosecond and the last attribute. Squashfs keeps seconds.
func TestDebianSources(t *testing.T) {
	debian := debianOrSkip(t, "tar", "mksquashfs", "unsquashfs")
	for name, source := range map[string]struct {
		pack func(t *testing.T, file string)
		diff func(a, b string) ([]string, error)
	}{
		"tar": {func(t *testing.T, file string) {
			tool(t, "tar", "--format=posix", "--sparse", "--xattrs", "--xattrs-include=*", "-C", debian, "-cf", file, ".")
		}, treediff.Diff},
		"squashfs": {func(t *testing.T, file string) {
			tool(t, "mksquashfs", debian, file, "-xattrs", "-comp", "lz4", "-quiet", "-no-progress")
		}, treediff.DiffSeconds},
		"directory": {func(t *testing.T, file string) {
			must(t, os.Symlink(debian, file))
		}, treediff.Diff},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "source")
			source.pack(t, file)
			parent := prepareHostJob(t, file)
			wantDiff(t, source.diff, debian, filepath.Join(parent, "image-root"))
		})
	}
}

// TestDebianUntouched: a session in which nobody changes anything publishes the
// root that it was given.
func TestDebianUntouched(t *testing.T) {
	debian := debianOrSkip(t, "ssh", "mksquashfs", "mount")
	parent := prepareHostJob(t, debian)
	job := startHostJob(t, parent)
	job.ssh(t, "touch /tmp/complete")
	image := job.finish(t)
	wantDiff(t, treediff.DiffSeconds, debian, mountImage(t, image),
		`"etc": mtime`, // resolv.conf was lent and taken back
		`"tmp": mtime`) // the marker lay there
	wantBootFiles(t, image, debian)
}

// TestDebianCustomized is an administrator's day in the jail: a package with
// all that packages do, accounts, permissions, capabilities, uploads. The image
// is what the session left, and the next job can begin with it.
func TestDebianCustomized(t *testing.T) {
	debian := debianOrSkip(t, "ssh", "scp", "sftp", "dpkg-deb", "setcap", "getcap", "mksquashfs", "unsquashfs", "mount")
	parent := prepareHostJob(t, debian)
	root := filepath.Join(parent, "image-root")
	job := startHostJob(t, parent)
	uploads := makeUploads(t)
	setcap, err := filepath.EvalSymlinks(tool(t, "which", "setcap"))
	must(t, err)

	job.scp(t, samplePackage(t), setcap, "job:")
	job.scp(t, "-rp", uploads, "job:/opt/uploads")
	job.sftp(t, strings.ReplaceAll(sftpBatch, "UPLOADS", uploads))
	job.ssh(t, adminScript)
	job.shell(t, "cp ~/.profile /srv/from-bash\ntest -n \"$BASH_VERSION\"\n")
	job.ssh(t, "touch /tmp/complete")

	image := job.finish(t)
	published := mountImage(t, image)
	wantDiff(t, treediff.DiffSeconds, root, published)
	wantDiff(t, treediff.DiffSeconds, uploads, filepath.Join(published, "opt/uploads"))
	wantCustomized(t, published)
	wantBootFiles(t, image, debian)

	next := prepareHostJob(t, filepath.Join(image, "rootfs"))
	wantDiff(t, treediff.DiffSeconds, root, filepath.Join(next, "image-root"))
}

// sftpBatch is what the administrator does with sftp.
const sftpBatch = `put UPLOADS/notes.txt /srv/draft
chmod 604 /srv/draft
chown 8 /srv/draft
rename /srv/draft /srv/notes
ln -s notes /srv/link
mkdir /srv/folder
rm /etc/issue.net
`

// adminScript is what the administrator does in a shell. The capability is set
// by a program that the image does not have, so it was uploaded.
const adminScript = `set -e
dpkg --install sample.deb
useradd --create-home --shell /bin/bash --groups sample ada
chmod 711 /home/ada
chown --recursive ada:ada /srv/folder
chmod 3775 /srv/folder
echo 'PATH=$PATH:/opt' >> /home/ada/.bashrc
cp /bin/sleep /usr/local/bin/pinger
./setcap cap_net_raw+ep /usr/local/bin/pinger
ln /usr/local/bin/pinger /usr/local/bin/pinger-again
mv /etc/motd /etc/motd.old
rm sample.deb setcap
`

// wantCustomized looks at what the administrator did, with the image's own programs.
func wantCustomized(t *testing.T, root string) {
	t.Helper()
	const want = `/etc/motd.old 644 root:root regular file
/etc/sample.conf 640 root:shadow regular file
/home/ada 711 ada:ada directory
/home/ada/.bashrc 644 ada:ada regular file
/srv/folder 3775 ada:ada directory
/srv/link 777 root:root symbolic link
/srv/notes 604 mail:root regular file
/usr/bin/sample 777 root:root symbolic link
/usr/bin/sample-helper 4755 root:root regular file
/usr/lib/sample/foreign 600 UNKNOWN:UNKNOWN regular file
/var/lib/sample 2750 sample:sample directory`
	var names []string
	for line := range strings.Lines(want) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	if got := tool(t, "chroot", append([]string{root, "stat", "--format=%n %a %U:%G %F"}, names...)...); got != want {
		t.Errorf("in the image:\n%s\nwant:\n%s", got, want)
	}
	for _, question := range []struct{ ask, want string }{
		{"dpkg-query --show --showformat '${db:Status-Status} ${Conffiles}' sample | grep -o 'installed.*sample.conf'", "installed  /etc/sample.conf"},
		{"id --groups --name ada", "ada sample"},
		{"stat --format=%u:%g /usr/lib/sample/foreign", "12345:54321"},
		{"stat --format=%h /usr/lib/sample/data", "2"},
		{"/usr/bin/sample", "helped"},
		{"ls -d /etc/issue.net /etc/motd /root/setcap /root/sample.deb 2>/dev/null || true", ""},
	} {
		if got := tool(t, "chroot", root, "sh", "-c", question.ask); got != question.want {
			t.Errorf("in the image: %s: %q, want %q", question.ask, got, question.want)
		}
	}
	pinger := filepath.Join(root, "usr/local/bin/pinger-again")
	if got, want := tool(t, "getcap", pinger), pinger+" cap_net_raw=ep"; got != want {
		t.Errorf("capabilities: %q, want %q", got, want)
	}
}

// wantBootFiles compares the artifacts to what the links in /boot lead to.
func wantBootFiles(t *testing.T, image, root string) {
	t.Helper()
	for artifact, link := range map[string]string{"kernel": "vmlinuz", "initrd": "initrd"} {
		target, err := os.Readlink(filepath.Join(root, "boot", link))
		must(t, err)
		file := filepath.Join(root, "boot", filepath.Base(target))
		tool(t, "cmp", file, filepath.Join(image, artifact))
	}
}

// makeUploads makes a folder to send, with modes and times of its own.
func makeUploads(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "uploads")
	must(t, os.MkdirAll(filepath.Join(folder, "sub dir"), 0o755))
	long := time.Unix(1_000_000_000, 0)
	for name, mode := range map[string]os.FileMode{
		"notes.txt": 0o644, "sub dir/tool ü.sh": 0o750, "sub dir/secret": 0o400, "sub dir/empty": 0o664,
	} {
		path, content := filepath.Join(folder, name), strings.Repeat(name, 1000)
		if filepath.Base(name) == "empty" {
			content = ""
		}
		must(t, os.WriteFile(path, []byte(content), 0o600))
		must(t, os.Chmod(path, mode))
		must(t, os.Chtimes(path, long, long))
	}
	must(t, os.Chmod(filepath.Join(folder, "sub dir"), 0o711))
	must(t, os.Chtimes(filepath.Join(folder, "sub dir"), long, long))
	must(t, os.Chtimes(folder, long, long))
	return folder
}

// mountImage lets the kernel mount an image's archive, until the test ends.
func mountImage(t *testing.T, image string) string {
	t.Helper()
	point := t.TempDir()
	tool(t, "mount", "-t", "squashfs", "-o", "loop,ro", filepath.Join(image, "rootfs"), point)
	t.Cleanup(func() {
		if err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW); err != nil {
			t.Errorf("unmount the image: %v", err)
		}
	})
	return point
}

// wantDiff compares two trees. The lines of what differs must begin as wanted,
// and there must be no others.
func wantDiff(t *testing.T, diff func(a, b string) ([]string, error), a, b string, want ...string) {
	t.Helper()
	found, err := diff(a, b)
	must(t, err)
	same := len(found) == len(want)
	for i := range found {
		same = same && strings.HasPrefix(found[i], want[i])
	}
	if !same {
		t.Errorf("differences between %s and %s:\n%s\nwant only:\n%s", a, b, strings.Join(found, "\n"), strings.Join(want, "\n"))
	}
}

// debianOrSkip is the Debian image root, for tests that copy it.
func debianOrSkip(t *testing.T, tools ...string) string {
	t.Helper()
	needRoot(t, tools...)
	root := debianRoot()
	if root == "" {
		t.Skip("no Debian image root; try: tools/debian-root")
	}
	return root
}
