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
	must(t, os.Chtimes(in("etc/motd"), time.Time{}, time.Unix(3<<30, 0)))
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
			test.opts.Progress = last.Store
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
			if last.Load() != int64(len(content)) {
				t.Errorf("progress ended at %d, want %d", last.Load(), len(content))
			}
			wantSame(t, root, mountAt(t, "-o", "loop,ro", archive, t.TempDir()))

			tree := filepath.Join(dir, "tree")
			must(t, Unpack(t.Context(), archive, tree, UnpackOptions{Progress: func(n, _ int64) { last.Store(n) }}))
			wantSame(t, root, tree)
			wantOnly(t, dir, "image.sqsh", "tree")
			if last.Load() > int64(len(content)) || last.Load() <= int64(len(content))-paddedTo {
				t.Errorf("progress ended at %d, want %d without the padding", last.Load(), len(content))
			}
		})
	}
}

func TestDiskFullLeavesNothing(t *testing.T) {
	needTools(t)
	root := makeRoot(t)
	archive := filepath.Join(t.TempDir(), "a")
	must(t, Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, archive, artifacts.PackOptions{}))
	small := mountAt(t, "-t", "tmpfs", "-o", "size=128k", "tmpfs", t.TempDir())
	steps := map[string]func() error{
		"pack": func() error {
			return Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, filepath.Join(small, "b"), artifacts.PackOptions{})
		},
		"unpack": func() error { return Unpack(t.Context(), archive, filepath.Join(small, "tree"), UnpackOptions{}) },
	}
	for name, step := range steps {
		t.Run(name, func(t *testing.T) {
			err := step()
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), "no space left on device") {
				t.Errorf("error %v, want no space left", err)
			}
			wantOnly(t, small)
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
	opts := artifacts.PackOptions{Compression: "xz", Processors: 1, Progress: func(int64) { cancel() }}
	err := Packer{Log: slog.New(slog.DiscardHandler)}.Pack(ctx, root, filepath.Join(dir, "a"), opts)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	wantOnly(t, dir)
}

func TestMissingTool(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	dir := t.TempDir()
	err := Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), dir, filepath.Join(dir, "a"), artifacts.PackOptions{})
	if want := "pack " + dir + ": mksquashfs: executable file not found in $PATH: install squashfs-tools"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	wantOnly(t, dir)
}
