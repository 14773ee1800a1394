package squashfs

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"buildenv/artifacts"
	"buildenv/internal/treediff"
)

// muchWork is for tests that pack or unpack a lot in ways that others do, too, for
// the race detector to see: that makes compression ten times slower. The tests
// are run once more without it (make test).
func muchWork(t *testing.T) {
	t.Helper()
	if racing {
		t.Skip("run without the race detector")
	}
}

// tool runs a program that must succeed.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// wide adds to a root what needs more than one metadata block, fragment and id.
func wide(t *testing.T, root string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(root, name) }
	must(t, os.MkdirAll(in("many"), 0o755))
	for i := range 1500 {
		name := in(fmt.Sprintf("many/%s-%04d", strings.Repeat("n", i%200), i))
		must(t, os.WriteFile(name, []byte(strings.Repeat(fmt.Sprint(i, " "), i%400)), 0o644))
		must(t, os.Chown(name, i%300, i%7))
	}
	for i := range 70 {
		must(t, os.Link(in("etc/motd"), in(fmt.Sprintf("many/link-%d", i))))
	}
	for size, content := range map[string]int{"block": 128 << 10, "less": 128<<10 - 1, "more": 128<<10 + 1, "two": 256 << 10, "empty": 0, "one": 1} {
		must(t, os.WriteFile(in("size-"+size), bytes.Repeat([]byte("0123456789abcdef-"), content/17+1)[:content], 0o644))
		must(t, os.WriteFile(in("same-"+size), bytes.Repeat([]byte("0123456789abcdef-"), content/17+1)[:content], 0o644))
	}
	deep := root
	for range 40 {
		deep = filepath.Join(deep, strings.Repeat("d", 60))
		must(t, os.Mkdir(deep, 0o755))
	}
	must(t, os.WriteFile(filepath.Join(deep, "bottom"), []byte("deep"), 0o644))
	for i := range 200 {
		name := in(fmt.Sprintf("many/attr-%d", i))
		must(t, os.WriteFile(name, nil, 0o644))
		must(t, unix.Setxattr(name, "user.number", fmt.Append(nil, i/2), 0))
		must(t, unix.Setxattr(name, "trusted.long", bytes.Repeat([]byte{byte(i % 3)}, 900), 0))
	}
	must(t, unix.Lsetxattr(in("absolute"), "trusted.link", []byte("of a link"), 0))
	must(t, os.WriteFile(in("holes"), bytes.Repeat([]byte("x"), 300<<10), 0o644))
	must(t, os.Truncate(in("holes"), 3<<20+5))
}

// What mksquashfs writes, with every compressor and the options that change the format.
func TestReadsWhatTheToolsWrite(t *testing.T) {
	muchWork(t)
	needTools(t)
	root := makeRoot(t)
	wide(t, root)
	for _, options := range []string{
		"", "-Xcompression-level 1", "-comp xz", "-comp xz -Xbcj x86 -b 1M", "-comp lzo", "-comp lz4", "-comp lz4 -Xhc", "-comp zstd -Xcompression-level 19",
		"-b 4096", "-b 1M", "-noI", "-noD", "-noF", "-noX", "-noI -noD -noF -noX", "-no-fragments", "-always-use-fragments",
		"-no-exports", "-no-duplicates", "-no-sparse", "-no-tailends", "-noId",
	} {
		t.Run(strings.ReplaceAll(options, " ", "_"), func(t *testing.T) {
			t.Parallel()
			archive, tree := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "tree")
			args := append([]string{root, archive, "-quiet", "-no-progress", "-noappend", "-processors", "1"}, strings.Fields(options)...)
			tool(t, "mksquashfs", args...)
			must(t, Unpack(t.Context(), archive, tree, UnpackOptions{}))
			wantSame(t, root, tree)
		})
	}
}

func TestReadsAnArchiveWithoutOwners(t *testing.T) {
	needTools(t)
	root := makeRoot(t)
	archive, tree := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "tree")
	tool(t, "mksquashfs", root, archive, "-quiet", "-no-progress", "-all-root", "-no-xattrs", "-all-time", "1000000000")
	must(t, Unpack(t.Context(), archive, tree, UnpackOptions{}))
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(tree, "etc/motd"), &st))
	if st.Uid != 0 || st.Gid != 0 || st.Mtim.Sec != 1000000000 {
		t.Errorf("owner %d:%d, time %d", st.Uid, st.Gid, st.Mtim.Sec)
	}
}

// Archives that mksquashfs makes of a tar have their inodes in another order.
func TestReadsWhatTheToolsMakeOfATar(t *testing.T) {
	needTools(t)
	root := makeRoot(t)
	wide(t, root)
	dir := t.TempDir()
	tarball, archive, tree, want := filepath.Join(dir, "tar"), filepath.Join(dir, "a"), filepath.Join(dir, "tree"), filepath.Join(dir, "want")
	tool(t, "tar", "--xattrs", "--xattrs-include=*", "--sort=none", "--numeric-owner", "-C", root, "-cf", tarball, ".")
	tool(t, "sh", "-c", `exec mksquashfs - "$1" -tar -quiet -no-progress <"$0"`, tarball, archive)
	tool(t, "unsquashfs", "-quiet", "-no-progress", "-dest", want, archive)
	must(t, Unpack(t.Context(), archive, tree, UnpackOptions{}))
	wantSame(t, want, tree)
}

// What we write, read by the kernel and by the tools.
func TestToolsReadWhatWeWrite(t *testing.T) {
	muchWork(t)
	needTools(t)
	root := makeRoot(t)
	wide(t, root)
	for name, opts := range map[string]artifacts.PackOptions{
		"gzip": {}, "gzip-9": {Level: 9}, "zstd": {Compression: "zstd", Level: 12}, "xz": {Compression: "xz"}, "none": {Compression: "none"},
		"small": {BlockSize: 4 << 10}, "large": {BlockSize: 1 << 20, Compression: "zstd"},
	} {
		t.Run(name, func(t *testing.T) {
			archive, tree := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "tree")
			must(t, Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, archive, opts))
			wantSame(t, root, mountAt(t, "-o", "loop,ro", archive, t.TempDir()))
			tool(t, "unsquashfs", "-quiet", "-no-progress", "-dest", tree, archive)
			wantSame(t, root, tree)
			again := filepath.Join(t.TempDir(), "again")
			must(t, Unpack(t.Context(), archive, again, UnpackOptions{}))
			wantSame(t, root, again)
		})
	}
}

func TestFUSEReadsWhatWeWrite(t *testing.T) {
	needTools(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("needs /dev/fuse")
	}
	root := makeRoot(t)
	wide(t, root)
	archive, at := filepath.Join(t.TempDir(), "a"), t.TempDir()
	must(t, Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, archive, artifacts.PackOptions{}))
	tool(t, "squashfuse", "-o", "allow_other", archive, at)
	defer exec.Command("umount", at).Run()
	differences, err := treediff.DiffSeconds(root, at)
	must(t, err)
	for _, line := range differences {
		if !strings.Contains(line, "xattr") && !strings.Contains(line, "hard link") { // FUSE shows fewer
			t.Error(line)
		}
	}
}

func TestTheSameBytesEveryTime(t *testing.T) {
	needTools(t)
	root := makeRoot(t)
	wide(t, root)
	pack := func(root string, processors int) []byte {
		archive := filepath.Join(t.TempDir(), "a")
		must(t, Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, archive, artifacts.PackOptions{Processors: processors}))
		content, err := os.ReadFile(archive)
		must(t, err)
		return content
	}
	first := pack(root, 1)
	for _, processors := range []int{2, 7} {
		if !bytes.Equal(first, pack(root, processors)) {
			t.Errorf("with %d processors the archive is another one", processors)
		}
	}
	copied := filepath.Join(t.TempDir(), "copy") // other inodes, another order of directories
	tool(t, "cp", "-a", root, copied)
	if !bytes.Equal(first, pack(copied, 3)) {
		t.Error("the archive of a copy is another one")
	}
}

func TestTimes(t *testing.T) {
	needTools(t)
	root := makeRoot(t)
	must(t, os.Chtimes(filepath.Join(root, "noise"), time.Unix(500, 0), time.Unix(500, 0)))
	newest := int64(3 << 30) // of etc/motd
	tests := []struct {
		name                 string
		epoch, created       *int64
		wantCreated, wantMax int64
	}{
		{"none", nil, nil, newest, newest},
		{"epoch", new(int64(1000)), nil, 1000, 1000},
		{"created", nil, new(int64(2000)), 2000, newest},
		{"both", new(int64(1000)), new(int64(2000)), 2000, 1000},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			archive := filepath.Join(t.TempDir(), "a")
			opts := artifacts.PackOptions{Epoch: test.epoch, Created: test.created}
			must(t, Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, archive, opts))
			a := openArchive(t, archive)
			if got := a.Info().Created.Unix(); got != test.wantCreated {
				t.Errorf("created at %d, want %d", got, test.wantCreated)
			}
			latest := int64(0)
			must(t, a.Walk(func(path string, i *Inode) error {
				latest = max(latest, int64(i.Mtime))
				if path == "noise" && i.Mtime != 500 {
					t.Errorf("an old file has now the time %d", i.Mtime)
				}
				return nil
			}))
			if latest != test.wantMax {
				t.Errorf("latest time %d, want %d", latest, test.wantMax)
			}
		})
	}
}

func openArchive(t *testing.T, name string) *Archive {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	a, err := Open(f)
	must(t, err)
	return a
}
