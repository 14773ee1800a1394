package squashfs

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"buildenv/artifacts"
	"buildenv/internal/treediff"

	"golang.org/x/sys/unix"
)

func TestIs(t *testing.T) {
	for header, want := range map[string]bool{"": false, "hsq": false, "sqsh": false, "hsqs": true, "hsqs\x00\x01": true} {
		if got := Is([]byte(header)); got != want {
			t.Errorf("Is(%q) = %v, want %v", header, got, want)
		}
	}
}

// needTools skips where the tools or the rights that they need are missing.
func needTools(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners, devices and mounts need root")
	}
	for _, tool := range []string{"mksquashfs", "unsquashfs"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
}

// must is for the steps that prepare a test.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makeRoot is a small tree with what archivers like to lose.
func makeRoot(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "-root") // a name that looks like an option
	in := func(name string) string { return filepath.Join(root, name) }
	must(t, os.Mkdir(root, 0o751))
	must(t, os.Mkdir(in("etc"), 0o755))
	must(t, os.WriteFile(in("etc/motd"), []byte("hello\n"), 0o640))
	must(t, os.Chown(in("etc/motd"), 12, 3999999999))
	must(t, os.Chmod(in("etc/motd"), 0o640|fs.ModeSetuid|fs.ModeSticky))
	// An access later than the change, or reading would be noted (relatime), and mksquashfs takes
	// names of one file for two when anything that stat(2) says has changed in between.
	must(t, os.Chtimes(in("etc/motd"), time.Unix(3<<30+1, 0), time.Unix(3<<30, 0)))
	must(t, os.Link(in("etc/motd"), in("issue")))
	must(t, os.Symlink("/nowhere", in("absolute")))
	must(t, os.WriteFile(in("not\nutf-8 \xff -exclude"), nil, 0o644))
	must(t, os.WriteFile(in("sparse"), []byte("x"), 0o644))
	must(t, os.Truncate(in("sparse"), 5<<20))
	noise := make([]byte, 3*128<<10+1)
	rand.Read(noise)
	must(t, os.WriteFile(in("noise"), noise, 0o600))
	must(t, unix.Mkfifo(in("fifo"), 0o644))
	must(t, unix.Mknod(in("socket"), unix.S_IFSOCK|0o644, 0))
	must(t, unix.Mknod(in("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Setxattr(in("noise"), "security.capability", []byte("\x01\x00\x00\x02\x00 \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	must(t, unix.Setxattr(in("etc"), "trusted.note", bytes.Repeat([]byte("n"), 3000), 0))
	return root
}

// mountAt mounts for the length of the test; use it where a mount is what is tested.
func mountAt(t *testing.T, args ...string) string {
	t.Helper()
	where := args[len(args)-1]
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Fatalf("mount %q: %v: %s", args, err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(where, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return where
}

func packer(log *bytes.Buffer) Packer { return Packer{Log: slog.New(slog.NewTextHandler(log, nil))} }

func wantSame(t *testing.T, a, b string) {
	t.Helper()
	differences, err := treediff.DiffSeconds(a, b)
	must(t, err)
	for _, line := range differences {
		t.Error(line)
	}
}

// wantOnly checks which names a directory has.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if !slices.Equal(got, names) {
		t.Errorf("%s has %q, want %q", dir, got, names)
	}
}

func TestPackAndUnpack(t *testing.T) {
	needTools(t)
	root := makeRoot(t)
	tests := []struct {
		name string
		opts artifacts.PackOptions
		id   byte // compressor in the superblock
	}{
		{"default", artifacts.PackOptions{}, 1},
		{"gzip 1", artifacts.PackOptions{Compression: "gzip", Level: 1, Processors: 1}, 1},
		{"zstd", artifacts.PackOptions{Compression: "zstd"}, 6},
		{"xz", artifacts.PackOptions{Compression: "xz"}, 4},
		{"none", artifacts.PackOptions{Compression: "none"}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			var last atomic.Int64
			test.opts.Progress = tellsAll(t, &last)
			dir := t.TempDir()
			archive := filepath.Join(dir, "image.sqsh")
			must(t, packer(&log).Pack(t.Context(), root, archive, test.opts))
			if log.Len() > 0 {
				t.Errorf("logged %s", &log)
			}
			wantOnly(t, dir, "image.sqsh")
			content, err := os.ReadFile(archive)
			must(t, err)
			if !Is(content) || content[20] != test.id || len(content)%4096 != 0 {
				t.Errorf("header %q, compressor %d, %d bytes", content[:4], content[20], len(content))
			}
			if want := fileBytes(t, root); last.Load() != want {
				t.Errorf("progress ended at %d, want %d", last.Load(), want)
			}
			wantSame(t, root, mountAt(t, "-o", "loop,ro", archive, t.TempDir()))

			tree := filepath.Join(dir, "tree")
			must(t, Unpack(t.Context(), archive, tree, UnpackOptions{Progress: tellsAll(t, &last)}))
			wantSame(t, root, tree)
			wantOnly(t, dir, "image.sqsh", "tree")
			if want := openArchive(t, archive).Info().Size; last.Load() != want {
				t.Errorf("progress ended at %d, want %d", last.Load(), want)
			}
		})
	}
}

// tellsAll checks progress, of which last is where it is.
func tellsAll(t *testing.T, last *atomic.Int64) func(done, total int64) {
	return func(done, total int64) {
		if last.Store(done); done > total {
			t.Errorf("progress is at %d of %d", done, total)
		}
	}
}

// fileBytes is the size of all files, each of them once.
func fileBytes(t *testing.T, root string) (total int64) {
	t.Helper()
	seen := map[uint64]bool{}
	must(t, filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if st := info.Sys().(*syscall.Stat_t); !seen[st.Ino] {
			seen[st.Ino] = true
			total += st.Size
		}
		return err
	}))
	return total
}

func TestDiskFullLeavesNothing(t *testing.T) {
	needTools(t)
	root := makeRoot(t)
	archive := filepath.Join(t.TempDir(), "a")
	must(t, Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, archive, artifacts.PackOptions{}))
	small := mountAt(t, "-t", "tmpfs", "-o", "size=128k", "tmpfs", t.TempDir())
	dir := t.TempDir()
	steps := map[string]func() error{
		"pack": func() error {
			return Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, filepath.Join(small, "b"), artifacts.PackOptions{})
		},
		"unpack": func() error { return Unpack(t.Context(), archive, filepath.Join(small, "tree"), UnpackOptions{}) },
		"record": func() error {
			full := mountAt(t, "-t", "tmpfs", "-o", "size=4k", "tmpfs", t.TempDir())
			must(t, os.WriteFile(filepath.Join(full, "full"), make([]byte, 4096), 0o600))
			defer wantOnly(t, full, "full")
			return Unpack(t.Context(), archive, filepath.Join(dir, "tree"), UnpackOptions{Record: filepath.Join(full, "record")})
		},
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			err := step()
			if err == nil || !strings.Contains(err.Error(), "no space left on device") {
				t.Errorf("error %v, want no space left", err)
			}
			wantOnly(t, small)
			wantOnly(t, dir)
		})
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	needTools(t)
	root := t.TempDir()
	noise := make([]byte, 1<<20)
	rand.Read(noise)
	for i := range 64 { // seconds of work for xz
		noise[0] = byte(i)
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), append(noise, noise[:i]...), 0o644))
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opts := artifacts.PackOptions{Compression: "xz", Processors: 1, Progress: func(_, _ int64) { cancel() }}
	err := Packer{Log: slog.New(slog.DiscardHandler)}.Pack(ctx, root, filepath.Join(dir, "a"), opts)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	wantOnly(t, dir)
}
