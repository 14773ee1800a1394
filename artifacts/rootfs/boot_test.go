package rootfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBoot(t *testing.T) {
	host, err := os.ReadFile("/etc/passwd")
	must(t, err)
	cases := []struct {
		name                       string
		tree                       []string
		kernel, initrd, parameters string
		want                       string // contents, joined by commas
		err                        string
	}{
		{"plain", []string{"boot/vmlinuz=k", "boot/initrd=i"}, "vmlinuz", "initrd", "", "k,i", ""},
		{"links", []string{"boot/vmlinuz->vmlinuz-6.1", "boot/vmlinuz-6.1=k", "boot/initrd->/boot/initrd-6.1", "boot/initrd-6.1=i"}, "vmlinuz", "initrd", "", "k,i", ""},
		{"boot is a link", []string{"boot->/usr/boot", "usr/boot/vmlinuz=k", "usr/boot/initrd=i"}, "vmlinuz", "initrd", "", "k,i", ""},
		{"parameters", []string{"boot/Image=k", "boot/initrd=i", "boot/params=quiet"}, "Image", "initrd", "params", "k,i,quiet", ""},
		{"parameters missing", []string{"boot/Image=k", "boot/initrd=i"}, "Image", "initrd", "params", "k,i", ""},
		{"a link to a file of the host", []string{"boot/vmlinuz->/etc/passwd", "etc/passwd=k", "boot/initrd=i"}, "vmlinuz", "initrd", "", "k,i", ""},
		{"a link to a file that only the host has", []string{"boot/vmlinuz->/etc/passwd", "boot/initrd=i"}, "vmlinuz", "initrd", "", "", "KERNEL_FILENAME"},
		{"no boot", nil, "vmlinuz", "initrd", "", "", "the image has no /boot"},
		{"empty boot", []string{"boot/"}, "vmlinuz", "initrd", "", "", "/boot is empty"},
		{"no kernel", []string{"boot/Image=k", "boot/initrd=i"}, "vmlinuz", "initrd", "", "", `"boot/vmlinuz": no such file or directory; /boot holds ["Image" "initrd"]; set KERNEL_FILENAME`},
		{"no initrd", []string{"boot/vmlinuz=k", "boot/initrd-6.1=i"}, "vmlinuz", "initrd", "", "", "INITRD_FILENAME"},
		{"empty kernel", []string{"boot/vmlinuz=", "boot/initrd=i"}, "vmlinuz", "initrd", "", "", "is empty"},
		{"kernel is a directory", []string{"boot/vmlinuz/", "boot/initrd=i"}, "vmlinuz", "initrd", "", "", "is a directory"},
		{"name with a slash", []string{"boot/vmlinuz=k", "boot/initrd=i"}, "../boot/vmlinuz", "initrd", "", "", "not the name of a file"},
		{"dots", []string{"boot/vmlinuz=k", "boot/initrd=i"}, "vmlinuz", "..", "", "", "not the name of a file"},
		{"no name", []string{"boot/vmlinuz=k", "boot/initrd=i"}, "", "initrd", "", "", "not the name of a file"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			files, err := Boot(open(t, c.tree...), c.kernel, c.initrd, c.parameters)
			if c.err != "" {
				if !errors.Is(err, ErrNoBootFile) || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error is %v, want one with %q", err, c.err)
				}
				return
			}
			must(t, err)
			defer files.Close()
			var got []string
			for _, f := range []*os.File{files.Kernel, files.Initrd, files.Parameters} {
				if f == nil {
					continue
				}
				content, err := io.ReadAll(f)
				must(t, err)
				if string(content) == string(host) {
					t.Error("a file of the host was read")
				}
				got = append(got, string(content))
			}
			if strings.Join(got, ",") != c.want {
				t.Errorf("files hold %q, want %q", got, c.want)
			}
		})
	}
}

func TestBootListingIsBounded(t *testing.T) {
	r := open(t)
	for i := range 100 {
		lay(t, r.Path(), "boot/"+strings.Repeat("x", i+1)+"=")
	}
	if _, err := Boot(r, "vmlinuz", "initrd", ""); err == nil || !strings.Contains(err.Error(), "and 80 more") {
		t.Errorf("error is %v", err)
	}
}

func TestSecureImageDir(t *testing.T) {
	needsRoot(t)
	r := open(t, "image/config.xml=x", "image/config.sh=x", "image/sub/deep.sh=x", "image/sub/secret=x", "image/out->../../outside", "etc/shadow=x", "image/shadow->/etc/shadow")
	for _, name := range []string{"image", "image/config.sh", "image/sub", "image/sub/secret", "image/out"} {
		must(t, os.Lchown(filepath.Join(r.Path(), name), 1000, 1000))
	}
	must(t, unix.Mkfifo(filepath.Join(r.Path(), "image/fifo.sh"), 0o666))
	must(t, SecureImageDir(r))
	for name, mode := range map[string]uint32{
		"image": unix.S_IFDIR | 0o700, "image/sub": unix.S_IFDIR | 0o700, "image/config.xml": unix.S_IFREG | 0o600,
		"image/config.sh": unix.S_IFREG | 0o700, "image/sub/deep.sh": unix.S_IFREG | 0o700, "image/sub/secret": unix.S_IFREG | 0o600,
		"image/fifo.sh": unix.S_IFIFO | 0o600, "image/out": unix.S_IFLNK | 0o777, "etc/shadow": unix.S_IFREG | 0o644,
	} {
		st, err := r.Lstat(name)
		must(t, err)
		if st.Mode != mode || st.Uid != 0 || st.Gid != 0 {
			t.Errorf("%s is %o %d:%d, want %o 0:0", name, st.Mode, st.Uid, st.Gid, mode)
		}
	}
	st, err := os.Stat(filepath.Join(r.Path(), "../outside"))
	must(t, err)
	if st.Mode() != 0o644 {
		t.Errorf("a file outside has mode %v", st.Mode())
	}
}

func TestSecureImageDirLeavesOthersAlone(t *testing.T) {
	needsRoot(t)
	must(t, SecureImageDir(open(t, "etc/")))
	r := open(t, "image->etc", "etc/passwd=x")
	must(t, SecureImageDir(r))
	for name, mode := range map[string]uint32{"etc": unix.S_IFDIR | 0o755, "etc/passwd": unix.S_IFREG | 0o644} {
		if st, err := r.Lstat(name); err != nil || st.Mode != mode {
			t.Errorf("%s is %o, %v; want %o", name, st.Mode, err, mode)
		}
	}
}
