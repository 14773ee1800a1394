package dir

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"buildenv/artifacts"
	"buildenv/artifacts/store/storetest"

	"golang.org/x/sys/unix"
)

func TestStore(t *testing.T) {
	storetest.Test(t, func(t *testing.T) artifacts.Store { return openStore(t, filepath.Join(t.TempDir(), "new", "store")) })
}

func openStore(t *testing.T, dir string) *Folder {
	t.Helper()
	s, err := New(dir, "boot-images", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantTree checks which files and folders there are.
func wantTree(t *testing.T, dir string, want ...string) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && path != dir {
			got = append(got, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	must(t, err)
	if !slices.Equal(got, want) {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
}

func TestLayout(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	wantTree(t, dir)
	o, err := s.Put(t.Context(), "id/rootfs", strings.NewReader("hello"), 5, map[string]string{"md5sum": "5d41402abc4b2a76b9719d911017c592"})
	must(t, err)
	wantTree(t, dir, "boot-images", "boot-images/id", "boot-images/id/rootfs", "boot-images/id/rootfs.metadata.json")
	metadata, err := os.ReadFile(filepath.Join(dir, "boot-images/id/rootfs.metadata.json"))
	must(t, err)
	const want = `{
    "content_type": "binary/octet-stream",
    "etag": "5d41402abc4b2a76b9719d911017c592",
    "metadata": {
        "md5sum": "5d41402abc4b2a76b9719d911017c592"
    },
    "size": 5
}`
	if string(metadata) != want {
		t.Errorf("metadata %s, want %s", metadata, want)
	}
	link := artifacts.Link{ETag: "5d41402abc4b2a76b9719d911017c592", Path: "s3://boot-images/id/rootfs", Type: "s3"}
	if got := s.Link(o); got != link {
		t.Errorf("link %+v, want %+v", got, link)
	}
	must(t, s.Delete(t.Context(), "id/rootfs"))
	wantTree(t, dir, "boot-images")
}

func TestKeysThatOnlyAFolderCannotHold(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, key := range []string{"rootfs.metadata.json", "a.metadata.json/b", strings.Repeat("x", maxElement+1)} {
		if _, err := s.Put(t.Context(), key, strings.NewReader(""), 0, nil); !errors.Is(err, artifacts.ErrBadKey) {
			t.Errorf("Put(%q): error %v, want ErrBadKey", key, err)
		}
	}
	key := strings.Repeat("x", maxElement)
	if _, err := s.Put(t.Context(), key, strings.NewReader(""), 0, nil); err != nil {
		t.Error(err)
	}
}

func TestAFailedPutLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	if _, err := s.Put(t.Context(), "id/rootfs", strings.NewReader("short"), 6, nil); err == nil {
		t.Error("no error")
	}
	wantTree(t, dir)
	_, err := s.Put(t.Context(), "file", strings.NewReader(""), 0, nil)
	must(t, err)
	for _, key := range []string{"file/below", "file/far/below"} {
		if _, err := s.Put(t.Context(), key, strings.NewReader(""), 0, nil); err == nil {
			t.Errorf("Put(%q): no error", key)
		}
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, artifacts.ErrNotFound) {
			t.Errorf("Stat(%q): error %v, want ErrNotFound", key, err)
		}
		must(t, s.Delete(t.Context(), key))
	}
	wantTree(t, dir, "boot-images", "boot-images/file", "boot-images/file.metadata.json")
}

func TestLinksDoNotLeadOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	s := openStore(t, dir)
	must(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("precious"), 0o644))
	must(t, os.WriteFile(filepath.Join(outside, "precious.metadata.json"), []byte("{}"), 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "boot-images"), 0o755))
	must(t, os.Symlink(outside, filepath.Join(dir, "boot-images", "folder")))
	must(t, os.Symlink(filepath.Join(outside, "precious"), filepath.Join(dir, "boot-images", "file")))
	must(t, os.Symlink(filepath.Join(outside, "precious.metadata.json"), filepath.Join(dir, "boot-images", "file.metadata.json")))
	for _, key := range []string{"folder/precious", "folder/new", "file"} {
		if r, err := s.Open(t.Context(), key); err == nil {
			r.Close()
			t.Errorf("Open(%q): no error", key)
		}
		s.Put(t.Context(), key, strings.NewReader("x"), 1, nil)
		s.Delete(t.Context(), key)
	}
	wantTree(t, outside, "precious", "precious.metadata.json")
	if content, _ := os.ReadFile(filepath.Join(outside, "precious")); string(content) != "precious" {
		t.Errorf("the file outside is now %q", content)
	}
}

func TestStrangersInTheFolder(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	for name, content := range map[string]string{"alone": "x", "orphan.metadata.json": "{}", "bad": "x", "bad.metadata.json": "not JSON"} {
		must(t, os.MkdirAll(filepath.Join(dir, "boot-images"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "boot-images", name), []byte(content), 0o644))
	}
	for _, key := range []string{"alone", "orphan"} {
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, artifacts.ErrNotFound) {
			t.Errorf("Stat(%q): error %v, want ErrNotFound", key, err)
		}
	}
	if _, err := s.Stat(t.Context(), "bad"); err == nil || !strings.Contains(err.Error(), "bad.metadata.json") {
		t.Errorf("error %v, want one that names the file", err)
	}
}

func inode(t *testing.T, name string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	must(t, unix.Stat(name, &stat))
	return stat.Ino
}

// A body that its owner gives up is kept as it is; any other is copied, since
// its owner may go on writing to it.
func TestSurrenderedBody(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, filepath.Join(dir, "store"))
	content := bytes.Repeat([]byte("content "), 1<<17)
	sum := md5.Sum(content)
	for _, surrender := range []bool{true, false} {
		name := filepath.Join(dir, "rootfs")
		must(t, os.WriteFile(name, content, 0o600))
		f, err := os.Open(name)
		must(t, err)
		defer f.Close()
		var body io.ReaderAt = f
		if surrender {
			body = artifacts.Surrendered{File: f}
		}
		o, err := s.Put(t.Context(), "id/rootfs", body, int64(len(content)), nil)
		must(t, err)
		if o.ETag != hex.EncodeToString(sum[:]) {
			t.Errorf("ETag %s, want %x", o.ETag, sum)
		}
		stored := filepath.Join(dir, "store/boot-images/id/rootfs")
		if same := inode(t, name) == inode(t, stored); same != surrender {
			t.Errorf("surrendered %v, same file %v", surrender, same)
		}
		must(t, os.Remove(name))
		if got, err := os.ReadFile(stored); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes stored, error %v", len(got), err)
		}
		info, err := os.Stat(stored)
		must(t, err)
		if info.Mode() != 0o644 {
			t.Errorf("mode %v, want 0644", info.Mode())
		}
	}
}

// What the owner knows of a body is not computed again.
func TestSurrenderedBodyWithDigest(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, filepath.Join(dir, "store"))
	name := filepath.Join(dir, "rootfs")
	must(t, os.WriteFile(name, []byte("content"), 0o600))
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	o, err := s.Put(t.Context(), "id/rootfs", artifacts.Surrendered{File: f, MD5: "known"}, 7, nil)
	must(t, err)
	if o.ETag != "known" {
		t.Errorf("ETag %s, want the one that was given", o.ETag)
	}
}

func TestDiskFullLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	s := openStore(t, dir)
	content := bytes.Repeat([]byte("x"), 1<<20)
	source := filepath.Join(t.TempDir(), "elsewhere") // where a surrendered file cannot be linked from
	must(t, os.WriteFile(source, content, 0o644))
	f, err := os.Open(source)
	must(t, err)
	defer f.Close()
	if _, err := s.Put(t.Context(), "id/rootfs", artifacts.Surrendered{File: f}, int64(len(content)), nil); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error %v, want no space left", err)
	}
	wantTree(t, dir)
}

func TestNewRefusesBuckets(t *testing.T) {
	for _, bucket := range []string{"", "..", "a/b", "ims", ".new", "UPPER", strings.Repeat("b", 64)} {
		if _, err := New(t.TempDir(), bucket, slog.New(slog.DiscardHandler)); !errors.Is(err, artifacts.ErrBadKey) {
			t.Errorf("New(%q): error %v, want ErrBadKey", bucket, err)
		}
	}
}

func TestPath(t *testing.T) {
	tests := []struct{ address, want string }{
		{"file:///srv/images", "/srv/images"},
		{"file:///srv/my images/", "/srv/my images"},
		{"file:///srv/100%25", "/srv/100%"},
		{"file://localhost/srv", "/srv"},
		{"file:///", "/"},
		{"file://srv/images", ""},
		{"file:images", ""},
		{"file://", ""},
		{"/srv/images", ""},
		{"s3://bucket", ""},
		{"file:///srv?x=y", ""},
		{"file:///srv#x", ""},
		{"file:///%zz", ""},
	}
	for _, test := range tests {
		got, err := Path(test.address)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("Path(%q) = %q, %v, want %q", test.address, got, err, test.want)
		}
	}
}
