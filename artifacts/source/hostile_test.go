package source

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"buildenv/artifacts/squashfs"
)

// archive writes a tar archive of headers whose content stands in contents.
func archive(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		if h.Typeflag == tar.TypeXGlobalHeader {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			continue
		}
		content := h.Uname // the tests' place for it
		h.Uname = ""
		h.Size = int64(len(content))
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		h.Uid, h.Gid = max(h.Uid, os.Geteuid()), max(h.Gid, os.Getegid())
		h.ModTime = time.Unix(1_700_000_000, 0)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Uname: content}
}
func dir(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name} }
func symlink(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}
func hardlink(name, old string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: old}
}

// describe lists a tree: names, and what is in files and links.
func describe(t *testing.T, root string) string {
	t.Helper()
	var lines []string
	must(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		switch d.Type() {
		case 0:
			content, err := os.ReadFile(path)
			must(t, err)
			name += "=" + string(content)
		case os.ModeDir:
			name += "/"
		case os.ModeSymlink:
			target, err := os.Readlink(path)
			must(t, err)
			name += "->" + target
		}
		lines = append(lines, name)
		return err
	}))
	return strings.Join(lines, " ")
}

func TestHostileArchives(t *testing.T) {
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644))
	secret := filepath.Join(outside, "secret")
	up := strings.Repeat("../", 20) + outside[1:]
	// inside is the tree when d leads to the copy of outside's path in the root.
	inside := func(target string) string {
		lines, path := []string{"d->" + target}, ""
		for part := range strings.SplitSeq(outside[1:], "/") {
			path += part + "/"
			lines = append(lines, path)
		}
		return strings.Join(append(lines, path+"secret=x"), " ")
	}
	cases := []struct {
		name    string
		entries []tar.Header
		want    string // the tree
		err     error  // or the refusal
	}{
		{"absolute name", []tar.Header{file("/etc/motd", "x")}, "etc/ etc/motd=x", nil},
		{"dotted name", []tar.Header{dir("./"), file(".//etc/./motd", "x")}, "etc/ etc/motd=x", nil},
		{"name leaves", []tar.Header{file("../secret", "x")}, "", ErrBadEntry},
		{"name leaves later", []tar.Header{file("a/../../secret", "x")}, "", ErrBadEntry},
		{"link leaves", []tar.Header{hardlink("a", "../secret")}, "", ErrBadEntry},
		{"file as root", []tar.Header{file(".", "x")}, "", ErrBadEntry},
		{"link as root", []tar.Header{symlink(".", outside)}, "", ErrBadEntry},
		{"through an absolute link", []tar.Header{symlink("d", outside), dir(outside[1:]), file("d/secret", "x")}, inside(outside), nil},
		{"through a relative link", []tar.Header{symlink("d", up), dir(outside[1:]), file("d/secret", "x")}, inside(up), nil},
		{"through a link to nowhere", []tar.Header{symlink("d", outside), file("d/secret", "x")}, "", os.ErrNotExist},
		{"through a loop", []tar.Header{symlink("d", "d"), file("d/secret", "x")}, "", unix.ELOOP},
		{"through a file", []tar.Header{file("d", ""), file("d/secret", "x")}, "", unix.ENOTDIR},
		{"onto a link", []tar.Header{symlink("a", secret), file("a", "x")}, "a=x", nil},
		{"link onto a link", []tar.Header{symlink("a", secret), symlink("a", "b")}, "a->b", nil},
		{"directory onto a link", []tar.Header{symlink("a", outside), dir("a/"), file("a/secret", "x")}, "a/ a/secret=x", nil},
		{"hard link to outside", []tar.Header{hardlink("a", secret)}, "", os.ErrNotExist},
		{"hard link through a link", []tar.Header{symlink("d", outside), hardlink("a", "d/secret")}, "", os.ErrNotExist},
		{"hard link to a link, then onto it", []tar.Header{symlink("s", secret), hardlink("a", "s"), file("a", "x")}, "a=x s->" + secret, nil},
		{"hard link to a directory", []tar.Header{dir("d"), hardlink("a", "d")}, "", unix.EPERM},
		{"hard link to itself", []tar.Header{file("a", "x"), hardlink("a", "./a")}, "a=x", nil},
		{"duplicate file", []tar.Header{file("a", "long"), file("a", "x")}, "a=x", nil},
		{"duplicate breaks its link", []tar.Header{file("a", "1"), hardlink("b", "a"), file("a", "2")}, "a=2 b=1", nil},
		{"file onto an empty directory", []tar.Header{dir("a"), file("a", "x")}, "a=x", nil},
		{"file onto a full directory", []tar.Header{file("a/b", "1"), file("a", "x")}, "", unix.ENOTEMPTY},
		{"link swapped under a parent", []tar.Header{dir("a"), file("a/1", ""), symlink("l", "a"), file("l/2", ""), dir("b"), symlink("l", "b"), file("l/3", "")},
			"a/ a/1= a/2= b/ b/3= l->b", nil},
		{"global header", []tar.Header{{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "x"}}, file("a", "")}, "a=", nil},
		{"usr merge", []tar.Header{dir("usr/lib"), symlink("lib", "usr/lib"), file("lib/a", "x")}, "lib->usr/lib usr/ usr/lib/ usr/lib/a=x", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			src := filepath.Join(t.TempDir(), "a.tar")
			must(t, os.WriteFile(src, archive(t, c.entries...), 0o644))
			parent := t.TempDir()
			dst := filepath.Join(parent, "root")
			err := Unpack(t.Context(), src, dst, Options{})
			switch {
			case c.err != nil:
				if !errors.Is(err, c.err) {
					t.Errorf("Unpack = %v, want %v", err, c.err)
				}
				leftovers(t, parent)
			case err != nil:
				t.Errorf("Unpack = %v", err)
			default:
				if got := describe(t, dst); got != c.want {
					t.Errorf("tree is %s, want %s", got, c.want)
				}
			}
			if content, err := os.ReadFile(secret); err != nil || string(content) != "secret" {
				t.Errorf("the file outside now holds %q, %v", content, err)
			}
			leftovers(t, outside, "secret")
		})
	}
}

func TestEntriesThatAreRefused(t *testing.T) {
	for name, entry := range map[string]tar.Header{
		"owner that chown ignores": {Typeflag: tar.TypeReg, Name: "a", Uid: 1<<32 - 1},
		"owner out of range":       {Typeflag: tar.TypeReg, Name: "a", Uid: 1 << 40},
		"device out of range":      {Typeflag: tar.TypeChar, Name: "a", Devmajor: 1 << 33, Format: tar.FormatGNU},
	} {
		t.Run(name, func(t *testing.T) {
			src := filepath.Join(t.TempDir(), "a.tar")
			must(t, os.WriteFile(src, archive(t, entry), 0o644))
			if err := Unpack(t.Context(), src, filepath.Join(t.TempDir(), "root"), Options{}); !errors.Is(err, ErrBadEntry) {
				t.Errorf("Unpack = %v, want %v", err, ErrBadEntry)
			}
		})
	}
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func TestDamagedArchives(t *testing.T) {
	whole := archive(t, file("a", strings.Repeat("content", 1000)), file("b", "x"))
	packed := gzipped(t, whole)
	damaged := bytes.Clone(packed)
	damaged[len(damaged)-5] ^= 1 // in the checksum or length
	cases := []struct {
		name string
		data []byte
		want error
	}{
		{"whole", whole, nil},
		{"garbage behind it", append(bytes.Clone(whole), bytes.Repeat([]byte("garbage"), 1000)...), nil},
		{"gzip with garbage behind it", append(bytes.Clone(packed), "garbage behind the end of the data"...), nil},
		{"cut in an entry", whole[:3000], io.ErrUnexpectedEOF},
		{"cut between entries", whole[:512+7168], io.ErrUnexpectedEOF},
		{"cut before its end", whole[:len(whole)-1024-512], io.ErrUnexpectedEOF},
		{"cut gzip", packed[:len(packed)-12], io.ErrUnexpectedEOF},
		{"gzip with a wrong checksum", damaged, gzip.ErrChecksum},
		{"empty", nil, ErrUnknownFormat},
		{"nothing but zeros", make([]byte, 10240), ErrUnknownFormat},
		{"text", bytes.Repeat([]byte("this is no archive\n"), 100), ErrUnknownFormat},
		{"short text", []byte("this is no archive\n"), ErrUnknownFormat},
		{"gzip of text", gzipped(t, bytes.Repeat([]byte("this is no archive\n"), 100)), ErrUnknownFormat},
		{"squashfs header alone", []byte("hsqs"), squashfs.ErrFormat},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			src, parent := filepath.Join(t.TempDir(), "archive"), t.TempDir()
			must(t, os.WriteFile(src, c.data, 0o644))
			err := Unpack(t.Context(), src, filepath.Join(parent, "root"), Options{})
			if c.want == nil && err != nil || !errors.Is(err, c.want) {
				t.Errorf("Unpack = %v, want %v", err, c.want)
			}
			if c.want != nil {
				leftovers(t, parent)
			}
		})
	}
}

func TestTruncatedSquashfs(t *testing.T) {
	needs(t, "mksquashfs")
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	run(t, "mksquashfs", quirks(t), image, "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "3")
	must(t, os.Truncate(image, 4096))
	parent := t.TempDir()
	err := Unpack(t.Context(), image, filepath.Join(parent, "root"), Options{})
	if !errors.Is(err, squashfs.ErrFormat) || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("Unpack = %v, want that it is truncated", err)
	}
	leftovers(t, parent)
}

func TestUnkeptAttributesAreWarnedAboutOnce(t *testing.T) {
	needs(t)
	var log bytes.Buffer
	var entries []tar.Header
	for _, name := range []string{"a", "b"} { // a link has no user attributes: EPERM, see xattr(7)
		link := symlink(name, "x")
		link.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1", "SCHILY.acl.access": "user::rwx"}
		entries = append(entries, link)
	}
	src := filepath.Join(t.TempDir(), "a.tar")
	must(t, os.WriteFile(src, archive(t, entries...), 0o644))
	must(t, Unpack(t.Context(), src, filepath.Join(t.TempDir(), "root"), Options{Log: slog.New(slog.NewTextHandler(&log, nil))}))
	if strings.Count(log.String(), "namespace=user") != 1 || strings.Count(log.String(), "SCHILY.acl") != 1 {
		t.Errorf("log holds %s; want one warning each for user attributes and for ACLs", log.String())
	}
}

// FuzzUnpackTar looks for archives that panic, hang, or leave the root.
func FuzzUnpackTar(f *testing.F) {
	f.Add(archive(f, dir("./"), dir("etc"), file("etc/motd", "x"), symlink("l", "/etc"), file("l/b", "y"), hardlink("h", "etc/motd")))
	f.Add(archive(f, symlink("a", "../../.."), file("a/b", "x")))
	f.Add(archive(f, file("a", "1"), file("a", "2"), dir("a")))
	long := file(strings.Repeat("long/", 60)+"name", strings.Repeat("z", 5000))
	long.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "\x00\xff"}
	f.Add(archive(f, long))
	f.Add(archive(f, tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"}, tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("g", 200), Format: tar.FormatGNU}))
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		src, dst := filepath.Join(parent, "archive"), filepath.Join(parent, "in/root")
		must(t, os.WriteFile(src, data, 0o644))
		must(t, os.Mkdir(filepath.Dir(dst), 0o755))
		err := Unpack(t.Context(), src, dst, Options{MaxBytes: 1 << 20, MaxEntries: 1000})
		leftovers(t, parent, "archive", "in")
		if err == nil {
			leftovers(t, filepath.Dir(dst), "root")
		} else {
			leftovers(t, filepath.Dir(dst))
		}
	})
}
