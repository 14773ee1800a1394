package source

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"buildenv/internal/treediff"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// needs skips a test that cannot mean anything here.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners, devices and attributes need root")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs the tool %s", tool)
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// quirks makes a root with one of everything that archivers lose.
func quirks(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	at := func(name string) string { return filepath.Join(root, name) }
	must(t, os.MkdirAll(at("usr/bin"), 0o755))
	must(t, os.Mkdir(at("many"), 0o755))
	must(t, os.Symlink("usr/bin", at("bin")))
	must(t, os.Symlink("/does/not/exist", at("absolute")))
	must(t, os.WriteFile(at("usr/bin/sudo"), []byte("#!"), 0o755))
	must(t, os.Link(at("usr/bin/sudo"), at("usr/bin/sudoedit")))
	must(t, os.Link(at("absolute"), at("absolute-again")))
	must(t, os.WriteFile(at("latin1-\xe9\nname"), []byte("x"), 0o600))
	must(t, os.WriteFile(at("empty"), nil, 0o000))
	must(t, os.WriteFile(at("blocks"), make([]byte, 3*holeBlock+1), 0o644))
	must(t, os.WriteFile(at("zero-tail"), append([]byte("data"), make([]byte, 2*holeBlock)...), 0o644))
	for i := range 300 {
		must(t, os.WriteFile(at("many/"+time.Unix(int64(i), 0).UTC().Format("150405")), []byte{byte(i)}, 0o644))
	}
	deep := "deep"
	for range 12 {
		deep += "/a-rather-long-name-of-a-directory"
	}
	must(t, os.MkdirAll(at(deep), 0o755))
	must(t, os.WriteFile(at(deep+"/file"), []byte("deep"), 0o644))
	sparse, err := os.Create(at("sparse"))
	must(t, err)
	for _, offset := range []int64{0, 20 << 20, 40 << 20} {
		_, err := sparse.WriteAt([]byte("island"), offset)
		must(t, err)
	}
	must(t, sparse.Truncate(60<<20))
	must(t, sparse.Close())
	must(t, unix.Mkfifo(at("fifo"), 0o640))
	must(t, unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(at("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	decorate(t, at)
	return root
}

// decorate sets owners, modes, attributes and times.
func decorate(t *testing.T, at func(string) string) {
	t.Helper()
	must(t, os.Chown(at("usr/bin/sudo"), 3_999_999_999, 12345))
	must(t, os.Lchown(at("absolute"), 42, 43))
	must(t, unix.Chmod(at("usr/bin/sudo"), 0o4511))
	must(t, unix.Chmod(at("many"), 0o3777))
	must(t, unix.Chmod(at("null"), 0o666))
	// VFS_CAP_REVISION_2, CAP_NET_RAW effective and permitted.
	capability := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	must(t, unix.Lsetxattr(at("usr/bin/sudo"), "security.capability", capability, 0))
	must(t, unix.Lsetxattr(at("blocks"), "user.binary", []byte{0, 1, 0xff, '\n', '=', 0}, 0))
	must(t, unix.Lsetxattr(at("blocks"), "user.empty", nil, 0))
	must(t, unix.Lsetxattr(at("blocks"), "trusted.secret", make([]byte, 3000), 0))
	must(t, unix.Lsetxattr(at("absolute"), "trusted.link", []byte("of the link"), 0))
	must(t, unix.Lsetxattr(at("many"), "user.dir", []byte("d"), 0))
	for name, sec := range map[string]int64{"absolute": 1, "empty": 0, "blocks": 1<<31 + 5, "fifo": 1_500_000_000, "many": 1_600_000_000, ".": 1_400_000_000} {
		when := unix.Timespec{Sec: sec, Nsec: 987_654_321}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at(name), []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

func allocated(t *testing.T, name string) int64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(name, &st))
	return st.Blocks * 512
}

func gnuTar(t *testing.T, root, archive string, options ...string) {
	t.Helper()
	options = append(options, "--xattrs", "--xattrs-include=*", "-C", root, "-cf", archive, ".")
	run(t, "tar", options...)
}

func TestUnpackKeepsEverything(t *testing.T) {
	needs(t, "tar", "zstd", "gzip", "mksquashfs")
	root := quirks(t)
	dir := t.TempDir()
	cases := []struct {
		name  string
		make  func(archive string) string
		diff  func(a, b string) ([]string, error)
		holes bool
	}{
		{"directory", func(string) string { return root }, treediff.Diff, true},
		{"pax tar", func(a string) string { gnuTar(t, root, a, "--format=pax"); return a }, treediff.Diff, true},
		{"pax tar with holes", func(a string) string { gnuTar(t, root, a, "--format=pax", "-S"); return a }, treediff.Diff, true},
		{"gzip", func(a string) string { gnuTar(t, root, a, "--format=pax", "-z"); return a }, treediff.Diff, true},
		{"zstd", func(a string) string { gnuTar(t, root, a, "--format=pax", "--zstd"); return a }, treediff.Diff, true},
		{"squashfs", func(a string) string {
			run(t, "mksquashfs", root, a, "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "3")
			return a
		}, treediff.DiffSeconds, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			src := c.make(filepath.Join(dir, c.name))
			dst := filepath.Join(t.TempDir(), "image-root")
			var progress int64
			must(t, Unpack(t.Context(), src, dst, Options{Progress: func(n, _ int64) { progress = n }}))
			found, err := c.diff(root, dst)
			must(t, err)
			for _, line := range found {
				t.Error(line)
			}
			if got := allocated(t, filepath.Join(dst, "sparse")); got > 1<<20 {
				t.Errorf("sparse file takes %d bytes on disk", got)
			}
			if c.name != "squashfs" && progress < 60<<20 {
				t.Errorf("progress ended at %d bytes, want all of them", progress)
			}
			leftovers(t, filepath.Dir(dst), "image-root")
		})
	}
}

func TestUnpackGNUFormat(t *testing.T) {
	needs(t, "tar")
	root := t.TempDir()
	deep := root
	for range 12 {
		deep = filepath.Join(deep, "a-rather-long-name-of-a-directory")
	}
	must(t, os.MkdirAll(deep, 0o755))
	must(t, os.WriteFile(filepath.Join(deep, "file"), []byte("x"), 0o644))
	must(t, os.Symlink(deep, filepath.Join(root, "link")))
	sparse := filepath.Join(root, "sparse")
	must(t, os.WriteFile(sparse, []byte("x"), 0o644))
	must(t, os.Truncate(sparse, 100<<20))
	must(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		when := unix.Timespec{Sec: 1_500_000_000}
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW))
	}))
	archive := filepath.Join(t.TempDir(), "a.tar")
	run(t, "tar", "--format=gnu", "-S", "-C", root, "-cf", archive, ".")
	dst := filepath.Join(t.TempDir(), "root")
	must(t, Unpack(t.Context(), archive, dst, Options{}))
	if got := allocated(t, filepath.Join(dst, "sparse")); got > 1<<20 {
		t.Errorf("sparse file takes %d bytes on disk", got)
	}
	if found, err := treediff.Diff(root, dst); err != nil || len(found) > 0 {
		t.Errorf("trees differ: %q, %v", found, err)
	}
}

func TestDenseFilesStayDenseInACopy(t *testing.T) {
	needs(t)
	src := t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "dense"), make([]byte, 1<<20), 0o644))
	dst := filepath.Join(t.TempDir(), "root")
	must(t, Unpack(t.Context(), src, dst, Options{}))
	if got := allocated(t, filepath.Join(dst, "dense")); got < 1<<20 {
		t.Errorf("a dense file became one with holes: %d bytes on disk", got)
	}
}

func TestCopyLeavesSocketsAndMountsOut(t *testing.T) {
	needs(t)
	src := t.TempDir()
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(socket)
	must(t, unix.Bind(socket, &unix.SockaddrUnix{Name: filepath.Join(src, "socket")}))
	must(t, os.Mkdir(filepath.Join(src, "mnt"), 0o755))
	must(t, os.Mkdir(filepath.Join(src, "bind"), 0o755))
	must(t, os.Mkdir(filepath.Join(src, "same"), 0o755))
	must(t, os.WriteFile(filepath.Join(src, "same/file"), nil, 0o644))
	must(t, unix.Mount("tmpfs", filepath.Join(src, "mnt"), "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(filepath.Join(src, "mnt"), unix.MNT_DETACH) })
	must(t, unix.Mount(filepath.Join(src, "same"), filepath.Join(src, "bind"), "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(filepath.Join(src, "bind"), unix.MNT_DETACH) })
	must(t, os.WriteFile(filepath.Join(src, "mnt/file"), nil, 0o644))
	dst := filepath.Join(t.TempDir(), "root")
	must(t, Unpack(t.Context(), src, dst, Options{}))
	leftovers(t, dst, "bind", "mnt", "same")
	leftovers(t, filepath.Join(dst, "mnt"))
	leftovers(t, filepath.Join(dst, "bind"))
	leftovers(t, filepath.Join(dst, "same"), "file")
}

func TestDestinationIsWholeOrAbsent(t *testing.T) {
	needs(t, "tar", "mksquashfs")
	root, dir := quirks(t), t.TempDir()
	whole := filepath.Join(dir, "whole.tar")
	gnuTar(t, root, whole, "--format=pax")
	image := filepath.Join(dir, "image")
	run(t, "mksquashfs", root, image, "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "3")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	cases := []struct {
		name string
		ctx  context.Context
		src  string
		opts Options
		want error
	}{
		{"cancelled tar", cancelled, whole, Options{}, context.Canceled},
		{"cancelled copy", cancelled, root, Options{}, context.Canceled},
		{"cancelled squashfs", cancelled, image, Options{}, context.Canceled},
		{"bytes of a tar", t.Context(), whole, Options{MaxBytes: 1 << 20}, ErrTooBig},
		{"entries of a tar", t.Context(), whole, Options{MaxEntries: 20}, ErrTooBig},
		{"bytes of a copy", t.Context(), root, Options{MaxBytes: 1 << 20}, ErrTooBig},
		{"entries of a copy", t.Context(), root, Options{MaxEntries: 20}, ErrTooBig},
		{"bytes of a squashfs", t.Context(), image, Options{MaxBytes: 1 << 20}, ErrTooBig},
		{"entries of a squashfs", t.Context(), image, Options{MaxEntries: 20}, ErrTooBig},
		{"source missing", t.Context(), filepath.Join(dir, "none"), Options{}, os.ErrNotExist},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			parent := t.TempDir()
			if err := Unpack(c.ctx, c.src, filepath.Join(parent, "root"), c.opts); !errors.Is(err, c.want) {
				t.Errorf("Unpack = %v, want %v", err, c.want)
			}
			leftovers(t, parent)
		})
	}
}

func TestCancelledHalfway(t *testing.T) {
	needs(t, "tar")
	root := quirks(t)
	archive := filepath.Join(t.TempDir(), "a.tar")
	gnuTar(t, root, archive, "--format=pax")
	for _, src := range []string{root, archive} {
		ctx, cancel := context.WithCancel(t.Context())
		parent := t.TempDir()
		err := Unpack(ctx, src, filepath.Join(parent, "root"), Options{Progress: func(_, _ int64) { cancel() }})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Unpack = %v, want cancelled", err)
		}
		leftovers(t, parent)
	}
}

func TestDestinationsThatAreRefused(t *testing.T) {
	src := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(src, "a/b"), 0o755))
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(filepath.Join(src, "a"), link))
	for dst, want := range map[string]error{
		src:                             os.ErrExist,
		filepath.Join(src, "new"):       unix.EINVAL,
		filepath.Join(src, "a/b/new"):   unix.EINVAL,
		filepath.Join(link, "b/new"):    unix.EINVAL,
		filepath.Join(src, "no/parent"): os.ErrNotExist,
	} {
		if err := Unpack(t.Context(), src, dst, Options{}); !errors.Is(err, want) {
			t.Errorf("Unpack to %s = %v, want %v", dst, err, want)
		}
	}
}

func TestAnEarlierAttemptIsCleared(t *testing.T) {
	src, parent := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(parent, ".root.unpacking/old"), 0o755))
	must(t, os.MkdirAll(filepath.Join(parent, "..root.unpacking.tmp-123/root/old"), 0o755))
	must(t, os.WriteFile(filepath.Join(src, "file"), nil, 0o644))
	must(t, Unpack(t.Context(), src, filepath.Join(parent, "root"), Options{}))
	leftovers(t, parent, "root")
	leftovers(t, filepath.Join(parent, "root"), "file")
}

// leftovers checks what a directory holds.
func leftovers(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if !slices.Equal(names, want) {
		t.Errorf("%s holds %q, want %q", dir, names, want)
	}
}
