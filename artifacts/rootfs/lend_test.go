package rootfs

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// stored is a record as it comes back from its file after a restart.
func stored[T any](t *testing.T, record T, err error) T {
	t.Helper()
	must(t, err)
	text, err := json.Marshal(record)
	must(t, err)
	var back T
	must(t, json.Unmarshal(text, &back))
	return back
}

const ours = "nameserver 10.96.0.10\n"

func TestResolver(t *testing.T) {
	needsRoot(t)
	big := strings.Repeat("# comment\n", 10_000)
	user := func(steps ...func(string) error) func(*Root) error {
		return func(r *Root) error {
			for _, step := range steps {
				if err := step(r.Path()); err != nil {
					return err
				}
			}
			return nil
		}
	}
	write := func(name, content string) func(string) error {
		return func(root string) error { return os.WriteFile(filepath.Join(root, name), []byte(content), 0o644) }
	}
	remove := func(name string) func(string) error {
		return func(root string) error { return os.RemoveAll(filepath.Join(root, name)) }
	}
	move := func(old, name string) func(string) error {
		return func(root string) error { return os.Rename(filepath.Join(root, old), filepath.Join(root, name)) }
	}
	cases := []struct {
		name   string
		before []string
		during []string // nil: not checked
		user   func(*Root) error
		after  []string
	}{
		{"file", []string{"etc/resolv.conf=old", "tmp/"}, []string{"etc/", "etc/resolv.conf=" + ours, "tmp/", "tmp/resolv.conf=old"}, user(), []string{"etc/", "etc/resolv.conf=old", "tmp/"}},
		{"link", []string{"etc/resolv.conf->/run/resolv.conf", "tmp/"}, []string{"etc/", "etc/resolv.conf=" + ours, "tmp/", "tmp/resolv.conf->/run/resolv.conf"}, user(), []string{"etc/", "etc/resolv.conf->/run/resolv.conf", "tmp/"}},
		{"link out of the root", []string{"etc/resolv.conf->../../outside", "tmp/"}, nil, user(), []string{"etc/", "etc/resolv.conf->../../outside", "tmp/"}},
		{"none", []string{"etc/", "tmp/"}, []string{"etc/", "etc/resolv.conf=" + ours, "tmp/"}, user(), []string{"etc/", "tmp/"}},
		{"bare root", nil, []string{"etc/", "etc/resolv.conf=" + ours, "tmp/"}, user(), nil},
		{"bare root in use", nil, nil, user(write("tmp/work", "x")), []string{"tmp/", "tmp/work=x"}},
		{"user edits", []string{"etc/resolv.conf=old", "tmp/"}, nil, user(write("etc/resolv.conf", "user")), []string{"etc/", "etc/resolv.conf=user", "tmp/"}},
		{"user replaces by a link", []string{"etc/resolv.conf=old", "tmp/"}, nil, user(remove("etc/resolv.conf"), func(root string) error { return os.Symlink("/run/x", root+"/etc/resolv.conf") }), []string{"etc/", "etc/resolv.conf->/run/x", "tmp/"}},
		{"user removes", []string{"etc/resolv.conf=old", "tmp/"}, nil, user(remove("etc/resolv.conf")), []string{"etc/", "etc/resolv.conf=old", "tmp/"}},
		{"user removes, none before", []string{"etc/", "tmp/"}, nil, user(remove("etc/resolv.conf")), []string{"etc/", "tmp/"}},
		{"user empties tmp, file", []string{"etc/resolv.conf=old", "tmp/"}, nil, user(remove("tmp/resolv.conf")), []string{"etc/", "etc/resolv.conf=old", "tmp/"}},
		{"user empties tmp, link", []string{"etc/resolv.conf->x", "tmp/"}, nil, user(remove("tmp")), []string{"etc/", "etc/resolv.conf->x"}},
		{"user edits the copy", []string{"etc/resolv.conf=old", "tmp/"}, nil, user(write("tmp/resolv.conf", "user")), []string{"etc/", "etc/resolv.conf=old", "tmp/"}},
		{"user moves the copy back", []string{"etc/resolv.conf=old", "tmp/"}, nil, user(move("tmp/resolv.conf", "etc/resolv.conf")), []string{"etc/", "etc/resolv.conf=old", "tmp/"}},
		{"image has a file in the way", []string{"etc/resolv.conf=old", "tmp/resolv.conf=image's"}, []string{"etc/", "etc/resolv.conf=" + ours, "tmp/", "tmp/resolv.conf=image's", "tmp/resolv.conf.1=old"}, user(), []string{"etc/", "etc/resolv.conf=old", "tmp/", "tmp/resolv.conf=image's"}},
		{"bigger than a record", []string{"etc/resolv.conf=" + big, "tmp/"}, nil, user(), []string{"etc/", "etc/resolv.conf=" + big, "tmp/"}},
		{"directory", []string{"etc/resolv.conf/x=1", "tmp/"}, nil, user(), []string{"etc/", "etc/resolv.conf/", "etc/resolv.conf/x=1", "tmp/"}},
		{"tmp leads out", []string{"etc/resolv.conf=old", "tmp->../../.."}, []string{"etc/", "etc/resolv.conf=" + ours, "resolv.conf=old", "tmp->../../.."}, user(), []string{"etc/", "etc/resolv.conf=old", "tmp->../../.."}},
		{"etc leads out", []string{"etc->/..", "tmp/", "resolv.conf=old"}, []string{"etc->/..", "resolv.conf=" + ours, "tmp/", "tmp/resolv.conf=old"}, user(), []string{"etc->/..", "resolv.conf=old", "tmp/"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := open(t, c.before...)
			plan, err := PlanResolver(r, []byte(ours))
			v := stored(t, plan, err)
			before := list(t, r)
			must(t, v.Restore(r)) // a crash before Put
			wantTree(t, r, before...)
			for range 2 { // a restart after it
				must(t, v.Put(r))
			}
			if c.during != nil {
				wantTree(t, r, c.during...)
			}
			must(t, c.user(r))
			for range 2 {
				must(t, v.Restore(r))
				wantTree(t, r, c.after...)
			}
		})
	}
}

func TestResolverKeepsMetadata(t *testing.T) {
	needsRoot(t)
	for _, lost := range []bool{false, true} {
		r := open(t, "etc/resolv.conf=old", "tmp/")
		handle, err := r.Handle("etc/resolv.conf")
		must(t, err)
		must(t, Meta{Mode: 0o600, UID: 7, GID: 8, Mtime: unix.Timespec{Sec: 1 << 33, Nsec: 5}}.Apply(handle, nil))
		must(t, handle.Close())
		before, err := r.Lstat("etc/resolv.conf")
		must(t, err)
		plan, err := PlanResolver(r, []byte(ours))
		v := stored(t, plan, err)
		must(t, v.Put(r))
		if lost {
			must(t, r.Remove("tmp/resolv.conf"))
		}
		must(t, v.Restore(r))
		after, err := r.Lstat("etc/resolv.conf")
		must(t, err)
		if after.Mode != before.Mode || after.Uid != 7 || after.Gid != 8 || after.Mtim != before.Mtim {
			t.Errorf("copy lost: %v: file is %+v, was %+v", lost, after, before)
		}
	}
}

func TestResolverAfterACrashInPut(t *testing.T) {
	needsRoot(t)
	r := open(t, "etc/resolv.conf=old", "tmp/")
	plan, err := PlanResolver(r, []byte(ours))
	v := stored(t, plan, err)
	must(t, v.moveAside(r))
	must(t, v.Put(r))
	wantTree(t, r, "etc/", "etc/resolv.conf="+ours, "tmp/", "tmp/resolv.conf=old")
	must(t, r.Remove("etc/resolv.conf"))
	must(t, v.Restore(r))
	wantTree(t, r, "etc/", "etc/resolv.conf=old", "tmp/")
}

func TestResolverRefuses(t *testing.T) {
	needsRoot(t)
	if _, err := PlanResolver(open(t, "etc->etc"), nil); !errors.Is(err, unix.ELOOP) {
		t.Errorf("etc leads to itself: %v", err)
	}
	if _, err := PlanResolver(open(t, "etc=file"), nil); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("etc is a file: %v", err)
	}
	if _, err := PlanResolver(open(t), make([]byte, maxSaved+1)); err == nil {
		t.Error("content without bound was taken")
	}
	r := open(t, "etc/resolv.conf="+strings.Repeat("x", maxSaved+1), "tmp/")
	v, err := PlanResolver(r, []byte(ours))
	must(t, err)
	must(t, v.Put(r))
	must(t, r.Remove("tmp/resolv.conf"))
	if err := v.Restore(r); err == nil || !strings.Contains(err.Error(), "copy is gone") {
		t.Errorf("an original that is lost: %v", err)
	}
}

func TestCA(t *testing.T) {
	needsRoot(t)
	from := t.TempDir()
	lay(t, from, "..2024/site.crt=site", "..data->..2024", "site.crt->..data/site.crt", "other.crt=other", "folder/x=1")
	put := []string{"etc/", "etc/cray/", "etc/cray/ca/", "etc/cray/ca/other.crt=other", "etc/cray/ca/site.crt=site"}
	cases := []struct {
		name   string
		before []string
		during []string
		change func(root string) error
		after  []string
	}{
		{"bare root", nil, put, nil, nil},
		{"etc there", []string{"etc/"}, put, nil, []string{"etc/"}},
		{"same file there", []string{"etc/cray/ca/site.crt=site"}, put, nil, []string{"etc/", "etc/cray/", "etc/cray/ca/", "etc/cray/ca/site.crt=site"}},
		{"other content there", []string{"etc/cray/ca/site.crt=old"}, put, nil, []string{"etc/", "etc/cray/", "etc/cray/ca/", "etc/cray/ca/site.crt=old"}},
		{"link out there", []string{"etc/cray/ca/site.crt->/../outside"}, put, nil, []string{"etc/", "etc/cray/", "etc/cray/ca/", "etc/cray/ca/site.crt->/../outside"}},
		{"user changes", []string{"etc/"}, put, func(root string) error { return os.WriteFile(root+"/etc/cray/ca/site.crt", []byte("user"), 0o644) },
			[]string{"etc/", "etc/cray/", "etc/cray/ca/", "etc/cray/ca/site.crt=user"}},
		{"user removes", []string{"etc/"}, put, func(root string) error { return os.RemoveAll(root + "/etc/cray") }, []string{"etc/"}},
		{"folder leads out", []string{"etc/cray->../../..", "ca/"}, []string{"ca/", "ca/other.crt=other", "ca/site.crt=site", "etc/", "etc/cray->../../.."}, nil, []string{"ca/", "etc/", "etc/cray->../../.."}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := open(t, c.before...)
			plan, err := PlanCA(r, from)
			v := stored(t, plan, err)
			before := list(t, r)
			must(t, v.Restore(r))
			wantTree(t, r, before...)
			for range 2 {
				must(t, v.Put(r))
				wantTree(t, r, c.during...)
			}
			if c.change != nil {
				must(t, c.change(r.Path()))
			}
			for range 2 {
				must(t, v.Restore(r))
				wantTree(t, r, c.after...)
			}
		})
	}
}

func TestCARefuses(t *testing.T) {
	empty := open(t)
	if _, err := PlanCA(empty, filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	many, big, odd, dangling, full := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	for i := range maxCAFiles + 1 {
		lay(t, many, strings.Repeat("x", i+1)+"=")
	}
	lay(t, big, "big="+strings.Repeat("x", maxCABytes+1))
	must(t, unix.Mkfifo(filepath.Join(odd, "fifo"), 0o600))
	lay(t, dangling, "a->/etc/passwd") // there is none inside the folder
	lay(t, full, "a=1")
	for name, c := range map[string]struct {
		r    *Root
		from string
	}{
		"too many": {empty, many}, "too big": {empty, big}, "fifo": {empty, odd}, "dangling": {empty, dangling},
		"in the way": {open(t, "etc/cray/ca/a/"), full},
	} {
		if _, err := PlanCA(c.r, c.from); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMounts(t *testing.T) {
	needsRoot(t)
	r := open(t, "proc/", "sys->/deep/sys", "deep/sys/", "user/", "kept/")
	path := func(name string) string { return filepath.Join(r.Path(), name) }
	t.Cleanup(func() { UnmountAll(r.Path(), nil) })
	must(t, unix.Mount("tmpfs", path("kept"), "tmpfs", 0, ""))
	plan, err := PlanMounts(r)
	m := stored(t, plan, err)
	for range 2 {
		must(t, m.Put(r))
	}
	below, err := Below(r.Path())
	must(t, err)
	slices.Sort(below)
	if want := []string{path("deep/sys"), path("dev"), path("kept"), path("proc")}; !slices.Equal(below, want) {
		t.Fatalf("mounted are %q, want %q", below, want)
	}
	for _, name := range []string{"proc/self/stat", "deep/sys/kernel", "dev/null"} {
		if _, err := os.Lstat(path(name)); err != nil {
			t.Error(err)
		}
	}
	// What a user does: a mount in a mount, one on top of another, one that hides another, a busy one.
	must(t, unix.Mount("tmpfs", path("user"), "tmpfs", 0, ""))
	must(t, os.MkdirAll(path("user/a/b"), 0o755))
	must(t, unix.Mount("tmpfs", path("user/a/b"), "tmpfs", 0, ""))
	must(t, unix.Mount("tmpfs", path("user/a"), "tmpfs", 0, ""))
	must(t, unix.Mount("tmpfs", path("kept"), "tmpfs", 0, ""))
	busy, err := os.Create(path("kept/busy"))
	must(t, err)
	defer busy.Close()
	for range 2 {
		must(t, m.Restore(r))
		below, err := Below(r.Path())
		must(t, err)
		if want := []string{path("kept")}; !slices.Equal(below, want) {
			t.Fatalf("mounted are %q, want %q", below, want)
		}
	}
	must(t, UnmountAll(r.Path(), nil))
	wantTree(t, r, "deep/", "deep/sys/", "kept/", "proc/", "sys->/deep/sys", "user/")
}

func TestUnmountAllSparesTheSystem(t *testing.T) {
	if err := UnmountAll("/", nil); err == nil {
		t.Error("unmounting everything was not refused")
	}
}
