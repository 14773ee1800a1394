package sftp

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// An open of a fifo would wait for its other end, and the whole jail with it.
func TestFifosAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startServe(t, enter(t, ""), Options{Home: dir})
	for _, flags := range []int{openRead, openWrite, openRead | openWrite, openWrite | openAppend | openCreate} {
		if r := c.call(fxpOpen, "fifo", flags, attrs{}); r.kind != fxpStatus || r.body.u32() != statusFailure {
			t.Errorf("flags %b: %v", flags, r)
		}
	}
}

// This is where OpenSSH loses the bit.
func TestSetuidSurvivesOwnerAndMode(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	c := startServe(t, enter(t, dir), Options{})
	all := attrs{flags: attrOwner | attrMode | attrTimes, uid: 12, gid: 34, mode: 0o104755, atime: 1, mtime: 2}
	c.open("f", fxpOpen, "by-handle", openWrite|openCreate, attrs{})
	c.open("g", fxpOpen, "by-path", openWrite|openCreate, attrs{})
	c.call(fxpFsetstat, ref("f"), all)
	c.call(fxpSetstat, "by-path", all)
	for _, name := range []string{"by-handle", "by-path"} {
		r := c.call(fxpStat, name)
		a := r.body.attrs()
		all.flags, all.mode = a.flags, 0o104755
		if a != all {
			t.Errorf("%s: got %+v, want %+v", name, a, all)
		}
	}
}

// The rename of version 3 must not replace anything, with and without the
// kernel's help.
func TestRenameReplacesNothing(t *testing.T) {
	for name, rename := range map[string]func(from, to string) error{"renameat2": rename, "link": renameByLink} {
		for _, test := range []struct {
			from, to string
			want     error
		}{
			{"file", "new", nil},
			{"dir", "new", nil},
			{"link", "new", nil},
			{"file", "other", unix.EEXIST},
			{"file", "dir", unix.EEXIST},
			{"dir", "empty", unix.EEXIST},
			{"link", "other", unix.EEXIST},
			{"file", "link", unix.EEXIST},
			{"file", "file", unix.EEXIST},
			{"missing", "new", unix.ENOENT},
			{"dir", "dir/sub", unix.EINVAL},
			{"file", "missing/new", unix.ENOENT},
		} {
			t.Run(fmt.Sprintf("%s %s to %s", name, test.from, test.to), func(t *testing.T) {
				dir := t.TempDir()
				sh(t, dir, `printf a >file; printf b >other; mkdir dir empty; ln -s nowhere link`)
				before := snapshot(t, dir)
				err := rename(filepath.Join(dir, test.from), filepath.Join(dir, test.to))
				if err != test.want {
					t.Errorf("got %v, want %v", err, test.want)
				}
				if after := snapshot(t, dir); test.want != nil && strings.Join(after, "\n") != strings.Join(before, "\n") {
					t.Errorf("refused, but the tree is now\n%q, was\n%q", after, before)
				}
				if _, err := os.Lstat(filepath.Join(dir, "new")); (err == nil) != (test.want == nil) {
					t.Errorf("the new name: %v", err)
				}
			})
		}
	}
}

// A copy that ends early is not a success; OpenSSH says it is.
func TestCopyDataReportsAShortSource(t *testing.T) {
	dir := t.TempDir()
	sh(t, dir, "printf abc >src")
	c := startServe(t, enter(t, ""), Options{Home: dir})
	c.open("r", fxpOpen, "src", openRead, attrs{})
	c.open("w", fxpOpen, "dst", openWrite|openCreate, attrs{})
	r := c.call(fxpExtended, "copy-data", ref("r"), uint64(1), uint64(100), ref("w"), uint64(0))
	if r.kind != fxpStatus || r.body.u32() != statusEOF {
		t.Errorf("got %v", r)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "dst")); err != nil || string(got) != "bc" {
		t.Errorf("copied %q, %v", got, err)
	}
}

// The account files of an image are its owner's, not ours: none of these may
// block the session, fill its memory or break its replies.
func TestAccountFilesOfAHostileImage(t *testing.T) {
	needRoot(t)
	for _, script := range []string{
		"mkfifo etc/passwd",
		"mkdir etc/passwd",
		"ln -s passwd etc/passwd",
		"mknod etc/passwd c 1 5", // zeros without end
		"mknod etc/passwd c 5 0", // a terminal, if there is one
		"head -c 3000000 /dev/zero | tr '\\0' a >etc/passwd",
		"printf 'x\\n:::\\na:b\\nroot:x:0x0\\n::0:0\\n' >etc/passwd",
		"head -c 300 /dev/zero | tr '\\0' a >etc/passwd; printf ':x:0:0::/:\\n' >>etc/passwd",
	} {
		dir := t.TempDir()
		sh(t, dir, "mkdir etc; printf 'wheel:x:0:\\n' >etc/group; "+script)
		c := startServe(t, enter(t, dir), Options{})
		r := c.call(fxpExtended, "users-groups-by-id@openssh.com", "\x00\x00\x00\x00", "\x00\x00\x00\x00")
		users, groups := r.body.string(), r.body.string()
		if r.kind != fxpExtendedReply || users != "\x00\x00\x00\x00" || groups != "\x00\x00\x00\x05wheel" {
			t.Errorf("%s: got %v, users %q, groups %q", script, r, users, groups)
		}
		c.open("d", fxpOpendir, "/")
		if s := c.call(fxpReaddir, ref("d")).String(); !strings.Contains(s, " 0        wheel ") {
			t.Errorf("%s: listing %s", script, s)
		}
	}
}

// OpenSSH 9.2 gives the caller's own directory whatever the name is.
func TestHomeDirectory(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	sh(t, dir, `mkdir etc; printf 'builder:x:77:78::/home/b:/bin/sh\n' >etc/passwd`)
	c := startServe(t, enter(t, dir), Options{Home: "/srv/me"})
	for user, want := range map[string]string{"": "/srv/me", "builder": "/home/b"} {
		r := c.call(fxpExtended, "home-directory", user)
		if n, home := r.body.u32(), r.body.string(); r.kind != fxpName || n != 1 || home != want {
			t.Errorf("%q: got type %d, %q, want %q", user, r.kind, home, want)
		}
	}
}

// A directory of many entries comes in batches, each entry once.
func TestReaddirListsEachEntryOnce(t *testing.T) {
	dir := t.TempDir()
	want := map[string]bool{".": true, "..": true}
	for i := range 3*maxEntries + 7 {
		name := fmt.Sprintf("%04d-%s", i, strings.Repeat("n", 250))
		want[name] = true
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := startServe(t, enter(t, ""), Options{Home: dir})
	c.open("d", fxpOpendir, ".")
	for {
		r := c.call(fxpReaddir, ref("d"))
		if r.kind != fxpName {
			if r.kind != fxpStatus || r.body.u32() != statusEOF {
				t.Errorf("listing ended with %v", r)
			}
			break
		}
		for range r.body.u32() {
			name := r.body.string()
			r.body.string()
			r.body.attrs()
			if !want[name] {
				t.Errorf("%q: unexpected or listed twice", name)
			}
			delete(want, name)
		}
	}
	if len(want) > 0 {
		t.Errorf("not listed: %d names", len(want))
	}
}
