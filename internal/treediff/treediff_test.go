package treediff

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree makes the same small tree each time it is called.
func tree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	must(t, os.Mkdir(filepath.Join(root, "dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "dir/file"), []byte("content"), 0o644))
	must(t, os.Link(filepath.Join(root, "dir/file"), filepath.Join(root, "dir/link")))
	must(t, os.WriteFile(filepath.Join(root, "dir/other"), []byte("other"), 0o644))
	must(t, os.Symlink("file", filepath.Join(root, "dir/symlink")))
	must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	must(t, os.WriteFile(filepath.Join(root, "bad\xffname\n"), nil, 0o644))
	settle(t, root)
	return root
}

// settle gives every name the same time.
func settle(t *testing.T, root string) {
	t.Helper()
	when := unix.Timespec{Sec: 1_700_000_000, Nsec: 123_456_789}
	for _, name := range []string{"dir/file", "dir/other", "dir/symlink", "dir", "fifo", "bad\xffname\n", "."} {
		path := filepath.Join(root, name)
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

func TestEqualTreesDoNotDiffer(t *testing.T) {
	if found, err := Diff(tree(t), tree(t)); err != nil || len(found) != 0 {
		t.Errorf("Diff = %q, %v; want nothing", found, err)
	}
}

func TestEachDifferenceIsFound(t *testing.T) {
	cases := map[string]struct {
		change func(root string) error
		want   string
	}{
		"missing":   {func(r string) error { return os.Remove(r + "/fifo") }, `"fifo": only in`},
		"more":      {func(r string) error { return os.WriteFile(r+"/new", nil, 0o644) }, `"new": only in`},
		"mode":      {func(r string) error { return os.Chmod(r+"/dir/other", os.ModeSetuid|0o755) }, `"dir/other": mode: 0644, 4755`},
		"root mode": {func(r string) error { return os.Chmod(r, 0o711) }, `".": mode`},
		"content":   {func(r string) error { return os.WriteFile(r+"/dir/other", []byte("othex"), 0o644) }, "differs from byte 4"},
		"size":      {func(r string) error { return os.WriteFile(r+"/dir/other", []byte("longer"), 0o644) }, `"dir/other": size: 5, 6`},
		"target": {func(r string) error {
			return replace(r+"/dir/symlink", func(n string) error { return os.Symlink("other", n) })
		}, "target: file, other"},
		"type": {func(r string) error {
			return replace(r+"/fifo", func(n string) error { return os.WriteFile(n, nil, 0o600) })
		}, `"fifo": type: fifo, file`},
		"split link": {func(r string) error {
			return replace(r+"/dir/link", func(n string) error { return os.WriteFile(n, []byte("content"), 0o644) })
		}, `"dir/link": hard link to: dir/file, `},
		"xattr": {func(r string) error { return unix.Setxattr(r+"/dir/other", "user.a", []byte{0, 0xff}, 0) }, `xattr user.a: none, "\x00\xff"`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			a, b := tree(t), tree(t)
			must(t, c.change(b))
			found, err := Diff(a, b)
			if err != nil || !strings.Contains(strings.Join(found, "\n"), c.want) {
				t.Errorf("Diff = %q, %v; want %q", found, err, c.want)
			}
		})
	}
}

func replace(name string, create func(string) error) error {
	if err := os.Remove(name); err != nil {
		return err
	}
	return create(name)
}

func TestGranularity(t *testing.T) {
	a, b := tree(t), tree(t)
	must(t, os.Chtimes(filepath.Join(b, "dir/other"), time.Time{}, time.Unix(1_700_000_000, 5)))
	if found, err := Diff(a, b); err != nil || len(found) != 1 || !strings.Contains(found[0], "mtime") {
		t.Errorf("Diff = %q, %v; want the time of one file", found, err)
	}
	if found, err := DiffSeconds(a, b); err != nil || len(found) != 0 {
		t.Errorf("DiffSeconds = %q, %v; want nothing", found, err)
	}
}

func TestOwnersAndDevices(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("changing owners and making devices needs root")
	}
	a, b := tree(t), tree(t)
	must(t, os.Lchown(filepath.Join(b, "dir/symlink"), 7, 8))
	must(t, unix.Mknod(filepath.Join(a, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(filepath.Join(b, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	found, err := Diff(a, b)
	must(t, err)
	for _, want := range []string{"uid: 0, 7", "gid: 0, 8", "device: 1:3, 1:5"} {
		if !strings.Contains(strings.Join(found, "\n"), want) {
			t.Errorf("Diff = %q; want %q", found, want)
		}
	}
}
