package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners, devices and mounts need root")
	}
}

// lay makes a tree from lines: "dir/", "file=content", "link->target".
func lay(t *testing.T, root string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		name, target, isLink := strings.Cut(line, "->")
		name, content, isFile := strings.Cut(name, "=")
		must(t, os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755))
		switch {
		case isLink:
			must(t, os.Symlink(target, filepath.Join(root, name)))
		case isFile:
			must(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
		default:
			must(t, os.MkdirAll(filepath.Join(root, name), 0o755))
		}
	}
}

// open lays a tree and opens it as a root, beside a file "outside" that nobody may touch.
func open(t *testing.T, lines ...string) *Root {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "../outside"), []byte("outside"), 0o644))
	lay(t, dir, lines...)
	r, err := Open(dir)
	must(t, err)
	t.Cleanup(func() {
		r.Close()
		entries, err := os.ReadDir(filepath.Join(dir, ".."))
		content, readErr := os.ReadFile(filepath.Join(dir, "../outside"))
		if err != nil || readErr != nil || len(entries) != 2 || string(content) != "outside" {
			t.Errorf("something outside the root changed: %v, %q, %v, %v", entries, content, err, readErr)
		}
	})
	return r
}

// list is the tree in the words of lay, without parents of what it lists.
func list(t *testing.T, r *Root) []string {
	t.Helper()
	var lines []string
	must(t, filepath.WalkDir(r.Path(), func(path string, d os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, r.Path()+"/")
		if err != nil || path == r.Path() {
			return err
		}
		switch d.Type() {
		case 0:
			content, err := os.ReadFile(path)
			must(t, err)
			lines = append(lines, name+"="+string(content))
		case os.ModeSymlink:
			target, err := os.Readlink(path)
			must(t, err)
			lines = append(lines, name+"->"+target)
		default:
			lines = append(lines, name+"/")
		}
		return nil
	}))
	return lines
}

func wantTree(t *testing.T, r *Root, want ...string) {
	t.Helper()
	if got := list(t, r); !slices.Equal(got, want) {
		t.Errorf("the root holds %q, want %q", got, want)
	}
}

func TestLookUpsStayInside(t *testing.T) {
	r := open(t, "etc/passwd=inside", "absolute->/etc/passwd", "up->../../../../etc/passwd", "chain->absolute",
		"loop->loop", "dangling->/nowhere", "dir->/etc", "self->/", "outside->../outside")
	cases := map[string]struct {
		want string
		err  error
	}{
		"etc/passwd":                   {"inside", nil},
		"/etc/passwd":                  {"inside", nil},
		"absolute":                     {"inside", nil},
		"up":                           {"inside", nil},
		"chain":                        {"inside", nil},
		"dir/passwd":                   {"inside", nil},
		"self/self/self/etc/passwd":    {"inside", nil},
		"../../../../../../etc/passwd": {"inside", nil},
		"../outside":                   {"", unix.ELOOP}, // ".." is the root, and outside there leads to itself
		"outside":                      {"", unix.ELOOP},
		"loop":                         {"", unix.ELOOP},
		"dangling":                     {"", fs.ErrNotExist},
		"etc/passwd/x":                 {"", unix.ENOTDIR},
		"":                             {"", unix.EISDIR},
	}
	for name, c := range cases {
		got, err := r.ReadFile(name, 100)
		if string(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("ReadFile(%q) = %q, %v; want %q, %v", name, got, err, c.want, c.err)
		}
	}
	if _, err := r.ReadFile("etc/passwd", 5); !errors.Is(err, unix.EFBIG) {
		t.Errorf("a file above the limit: %v", err)
	}
}

func TestOnlyFilesAndDirectoriesAreOpened(t *testing.T) {
	needsRoot(t)
	r := open(t, "link->fifo")
	must(t, unix.Mkfifo(filepath.Join(r.Path(), "fifo"), 0o600))
	must(t, unix.Mknod(filepath.Join(r.Path(), "zero"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))))
	for _, name := range []string{"fifo", "link", "zero"} {
		if _, err := r.Open(name); !errors.Is(err, ErrNotRegular) {
			t.Errorf("Open(%q) = %v, want %v", name, err, ErrNotRegular)
		}
	}
}

func TestWritesReplaceNamesNotTargets(t *testing.T) {
	text := func() *strings.Reader { return strings.NewReader("new") }
	meta := Meta{Mode: 0o640, UID: os.Geteuid(), GID: os.Getegid(), Mtime: unix.Timespec{Sec: 5, Nsec: 6}}
	cases := []struct {
		name string
		tree []string
		do   func(*Root) error
		want []string
		err  error
	}{
		{"onto a link out", []string{"a->../outside"}, func(r *Root) error { return r.WriteFile("a", text(), meta) }, []string{"a=new"}, nil},
		{"onto an absolute link", []string{"a->/b", "b=old"}, func(r *Root) error { return r.WriteFile("a", text(), meta) }, []string{"a=new", "b=old"}, nil},
		{"through a link out", []string{"d->..", "outside=in"}, func(r *Root) error { return r.WriteFile("d/outside", text(), meta) }, []string{"d->..", "outside=new"}, nil},
		{"onto a directory", []string{"a/"}, func(r *Root) error { return r.WriteFile("a", text(), meta) }, []string{"a/"}, unix.EISDIR},
		{"name of the parent", nil, func(r *Root) error { return r.WriteFile("..", text(), meta) }, nil, ErrBadName},
		{"create on a link", []string{"a->/b"}, func(r *Root) error { _, err := r.Create("a"); return err }, []string{"a->/b"}, fs.ErrExist},
		{"remove a link", []string{"a->/b", "b=x"}, func(r *Root) error { return r.Remove("a") }, []string{"b=x"}, nil},
		{"remove through a link", []string{"d->..", "x=1"}, func(r *Root) error { return r.Remove("d/x") }, []string{"d->.."}, nil},
		{"rename through links", []string{"d->/e", "e/x=1", "f->../../g", "g/"}, func(r *Root) error { return r.Rename("d/x", "f/y") }, []string{"d->/e", "e/", "f->../../g", "g/", "g/y=1"}, nil},
		{"link to a link", []string{"a->/b"}, func(r *Root) error { return r.Link("a", "c") }, []string{"a->/b", "c->/b"}, nil},
		{"directories through a link", []string{"d->../../e", "e/"}, func(r *Root) error { return r.MkdirAll("d/f/g", 0o700) }, []string{"d->../../e", "e/", "e/f/", "e/f/g/"}, nil},
		{"directories under a file", []string{"a=x"}, func(r *Root) error { return r.MkdirAll("a/b", 0o700) }, []string{"a=x"}, unix.ENOTDIR},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := open(t, c.tree...)
			if err := c.do(r); !errors.Is(err, c.err) {
				t.Errorf("error is %v, want %v", err, c.err)
			}
			wantTree(t, r, c.want...)
		})
	}
}

func TestWriteFileAppliesMetadata(t *testing.T) {
	needsRoot(t)
	r := open(t)
	meta := Meta{Mode: 0o6755, UID: 7, GID: 8, Mtime: unix.Timespec{Sec: 1 << 31, Nsec: 6}, Xattrs: []Xattr{{"trusted.x", []byte{0, 1}}}}
	must(t, r.WriteFile("a", strings.NewReader("x"), meta))
	st, err := r.Lstat("a")
	must(t, err)
	if st.Mode != unix.S_IFREG|0o6755 || st.Uid != 7 || st.Gid != 8 || st.Mtim != meta.Mtime {
		t.Errorf("file is %o %d:%d %v", st.Mode, st.Uid, st.Gid, st.Mtim)
	}
	value := make([]byte, 10)
	if n, err := unix.Lgetxattr(filepath.Join(r.Path(), "a"), "trusted.x", value); err != nil || string(value[:n]) != "\x00\x01" {
		t.Errorf("attribute is %q, %v", value[:max(n, 0)], err)
	}
}

func TestMetadataOfALinkIsItsOwn(t *testing.T) {
	needsRoot(t)
	r := open(t, "a->b", "b=x")
	before, err := r.Lstat("b")
	must(t, err)
	handle, err := r.Handle("a")
	must(t, err)
	defer handle.Close()
	meta := Meta{Mode: 0o600, UID: 7, GID: 8, Mtime: unix.Timespec{Sec: 9}, Xattrs: []Xattr{{"trusted.x", []byte("1")}}}
	must(t, meta.Apply(handle, func(attr string, err error) { t.Errorf("%s: %v", attr, err) }))
	link, err := r.Lstat("a")
	must(t, err)
	after, err := r.Lstat("b")
	must(t, err)
	if link.Uid != 7 || link.Mtim.Sec != 9 || after != before {
		t.Errorf("link is %+v; its target was %+v and is %+v", link, before, after)
	}
}

func TestPrivateRootForgetsParentsThatMove(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, "a/", "b/", "l->a")
	r, err := OpenPrivate(dir)
	must(t, err)
	defer r.Close()
	create := func(name string) {
		f, err := r.Create(name)
		must(t, err)
		f.Close()
	}
	create("l/1")
	must(t, r.Remove("l"))
	must(t, r.Symlink("b", "l"))
	create("l/2")
	must(t, r.Rename("b", "c"))
	must(t, r.Mkdir("b", 0o755))
	create("b/3")
	must(t, r.WriteFile("l", strings.NewReader(""), Meta{Mode: 0o644, UID: os.Geteuid(), GID: os.Getegid(), Mtime: Now}))
	if _, err := r.Create("l/4"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("Create below a file: %v", err)
	}
	wantTree(t, r, "a/", "a/1=", "b/", "b/3=", "c/", "c/2=", "l=")
}
