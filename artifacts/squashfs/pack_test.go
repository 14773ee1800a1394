package squashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"buildenv/artifacts"

	"golang.org/x/sys/unix"
)

func TestPackTakesARootThatIsALink(t *testing.T) {
	needTools(t)
	root := makeRoot(t)
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(root, link))
	var log bytes.Buffer
	archive, tree := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "tree")
	must(t, packer(&log).Pack(t.Context(), link, archive, artifacts.PackOptions{}))
	must(t, Unpack(t.Context(), archive, tree, UnpackOptions{}))
	wantSame(t, root, tree)
}

func TestPackLeavesOutMounts(t *testing.T) {
	needTools(t)
	root := makeRoot(t)
	in := func(name string) string { return filepath.Join(root, name) }
	for _, dir := range []string{"proc", "we*ird [x]", "we_ird [x]", "bound", "sys"} {
		must(t, os.Mkdir(in(dir), 0o755))
	}
	must(t, os.WriteFile(in("we_ird [x]/kept"), nil, 0o644))
	must(t, os.WriteFile(in("resolv.conf"), nil, 0o644))
	must(t, os.WriteFile(in("linked"), []byte("linked"), 0o644)) // and seen first where it is mounted
	must(t, os.Link(in("linked"), in("linked-too")))
	must(t, os.WriteFile(in("a-mount"), nil, 0o644))
	source := t.TempDir()
	must(t, os.WriteFile(filepath.Join(source, ".hidden"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(source, "outside"), nil, 0o644))
	mountAt(t, "-t", "proc", "proc", in("proc"))
	mountAt(t, "--bind", source, in("we*ird [x]"))
	mountAt(t, "--bind", source, in("bound"))
	mountAt(t, "--bind", "/etc/hostname", in("resolv.conf"))
	mountAt(t, "--bind", in("linked"), in("a-mount"))

	var log bytes.Buffer
	archive, tree := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "tree")
	must(t, packer(&log).Pack(t.Context(), root, archive, artifacts.PackOptions{}))
	must(t, Unpack(t.Context(), archive, tree, UnpackOptions{}))
	for _, empty := range []string{"proc", "we*ird [x]", "bound", "sys"} {
		wantOnly(t, filepath.Join(tree, empty))
	}
	wantOnly(t, filepath.Join(tree, "we_ird [x]"), "kept")
	if _, err := os.Lstat(filepath.Join(tree, "resolv.conf")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("resolv.conf: error %v, want not there", err)
	}
	for _, name := range []string{"linked", "linked-too"} {
		if content := read(t, filepath.Join(tree, name)); string(content) != "linked" {
			t.Errorf("%s holds %q", name, content)
		}
	}
	if got := strings.Count(log.String(), "another file system is mounted there"); got != 5 {
		t.Errorf("%d warnings, want 5: %s", got, &log)
	}
}

func TestPackNamesFilesWithLostAttributes(t *testing.T) {
	needTools(t)
	root := makeRoot(t)
	// POSIX ACL (linux/posix_acl_xattr.h): version 2, then tag, permissions and id.
	acl := []byte("\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x06\x00\xe8\x03\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x06\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff")
	lose := func(name string) {
		must(t, os.WriteFile(name, nil, 0o644))
		must(t, unix.Setxattr(name, "system.posix_acl_access", acl, 0))
	}
	const ordinary = 300
	for i := range ordinary {
		lose(filepath.Join(root, fmt.Sprintf("acl-%03d", i)))
	}
	folder := filepath.Join(root, "folder")
	must(t, os.Mkdir(folder, 0o755))
	must(t, unix.Setxattr(folder, "system.posix_acl_access", acl, 0))
	must(t, unix.Setxattr(folder, "system.posix_acl_default", acl, 0))
	var log bytes.Buffer
	must(t, packer(&log).Pack(t.Context(), root, filepath.Join(t.TempDir(), "a"), artifacts.PackOptions{}))
	for i := range ordinary {
		if want := fmt.Sprintf("/acl-%03d attributes=system.posix_acl_access", i); strings.Count(log.String(), want) != 1 {
			t.Errorf("no %q in the log", want)
		}
	}
	if want := `/folder attributes="system.posix_acl_access system.posix_acl_default"`; strings.Count(log.String(), want) != 1 || strings.Contains(log.String(), "more files") {
		t.Errorf("no %q in the log, or more: %s", want, &log)
	}

	deep := root // names whose log would be too long
	for range 10 {
		deep = filepath.Join(deep, strings.Repeat("d", 250))
	}
	must(t, os.MkdirAll(deep, 0o755))
	const hostile = 600
	for i := range hostile {
		lose(filepath.Join(deep, fmt.Sprintf("%03d", i)))
	}
	log.Reset()
	must(t, packer(&log).Pack(t.Context(), root, filepath.Join(t.TempDir(), "b"), artifacts.PackOptions{}))
	named := strings.Count(log.String(), lostMessage)
	if want := fmt.Sprintf("files=%d", hostile+ordinary+1-named); named < ordinary || log.Len() > 2*warnLimit || !strings.Contains(log.String(), want) {
		t.Errorf("%d named in %d bytes, and no %q", named, log.Len(), want)
	}
}

func TestPackRefuses(t *testing.T) {
	needTools(t)
	root := makeRoot(t)
	used := filepath.Join(t.TempDir(), "used")
	must(t, os.WriteFile(used, []byte("precious"), 0o644))
	tests := []struct {
		name, root, dst string
		opts            artifacts.PackOptions
		want            string
	}{
		{"an archive that is there", root, used, artifacts.PackOptions{}, "file already exists"},
		{"no root", root + "/none", "", artifacts.PackOptions{}, "no such file or directory"},
		{"a root that is a file", used, "", artifacts.PackOptions{}, "not a directory"},
		{"no directory for the archive", root, "/none/such", artifacts.PackOptions{}, "no such file or directory"},
		{"unknown compression", root, "", artifacts.PackOptions{Compression: "lzip"}, `compression "lzip": want gzip, zstd, xz or none`},
		{"level too high", root, "", artifacts.PackOptions{Level: 10}, "compression gzip: level 10: want 1 to 9"},
		{"level too low", root, "", artifacts.PackOptions{Compression: "zstd", Level: -1}, "compression zstd: level -1: want 1 to 22"},
		{"time before 1970", root, "", artifacts.PackOptions{Epoch: new(int64(-1))}, "time -1: squashfs knows the seconds from 0 to 4294967295"},
		{"time after 2106", root, "", artifacts.PackOptions{Created: new(int64(1 << 32))}, "time 4294967296: squashfs knows"},
		{"block size", root, "", artifacts.PackOptions{BlockSize: 5000}, "block size 5000: want a power of two from 4096 to 1048576"},
		{"level for none", root, "", artifacts.PackOptions{Compression: "none", Level: 1}, "compression none: level 1: it has no levels"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if test.dst == "" {
				test.dst = filepath.Join(dir, "a")
			}
			err := Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), test.root, test.dst, test.opts)
			if err == nil || !strings.HasPrefix(err.Error(), "pack "+test.root+": ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			wantOnly(t, dir)
			wantRefusal := !reflect.DeepEqual(test.opts, artifacts.PackOptions{})
			if refusal := CheckOptions(test.opts); (refusal != nil) != wantRefusal {
				t.Errorf("CheckOptions: error %v, want one: %v", refusal, wantRefusal)
			}
		})
	}
	if content, _ := os.ReadFile(used); string(content) != "precious" {
		t.Errorf("the file that was there is now %q", content)
	}
}
