package squashfs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"buildenv/artifacts"
)

// extremes are what a format's fields and a writer's tables run out of first.
var extremes = map[string]func(t *testing.T, root string){
	"100,000 names in a directory, 65,000 of one file": func(t *testing.T, root string) {
		first := filepath.Join(root, "first")
		must(t, os.WriteFile(first, []byte("the same inode"), 0o644))
		must(t, os.Mkdir(filepath.Join(root, "many"), 0o755))
		for i := range 100_000 {
			name := filepath.Join(root, "many", fmt.Sprintf("%06d", i))
			if i < 64_999 { // ext4 allows no more
				must(t, os.Link(first, name))
			} else {
				must(t, unix.Mknod(name, unix.S_IFIFO|0o600, 0))
			}
		}
	},
	"long names and bytes": func(t *testing.T, root string) {
		for i := range 2000 {
			must(t, os.Mkdir(filepath.Join(root, fmt.Sprintf("%04d%s", i, strings.Repeat("x", 251))), 0o755))
		}
		for b := 1; b < 256; b++ {
			if b != '/' && b != '.' {
				must(t, os.WriteFile(filepath.Join(root, string([]byte{byte(b)})), []byte{byte(b)}, 0o644))
			}
		}
	},
	"5 GB of holes": func(t *testing.T, root string) {
		f, err := os.Create(filepath.Join(root, "sparse"))
		must(t, err)
		for _, at := range []int64{0, 1 << 30, 4<<30 + 12345, 5<<30 - 3} {
			_, err := f.WriteAt([]byte("end"), at)
			must(t, err)
		}
		must(t, f.Close())
		must(t, os.WriteFile(filepath.Join(root, "empty"), nil, 0o644))
	},
	"many owners and attributes": func(t *testing.T, root string) {
		for i := range 3000 {
			name := filepath.Join(root, fmt.Sprint(i))
			must(t, os.WriteFile(name, nil, 0o644))
			must(t, os.Chown(name, 100_000+i, 200_000+i))
			must(t, unix.Setxattr(name, "user.n", fmt.Append(nil, i), 0))
			for j := range i % 10 {
				must(t, unix.Setxattr(name, fmt.Sprintf("trusted.%s%d", strings.Repeat("n", i%100), j), bytes.Repeat([]byte("v"), i%70), 0))
			}
		}
	},
	"every kind of file": func(t *testing.T, root string) {
		for i, kind := range []uint32{unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFREG} {
			for _, device := range []uint64{0, unix.Mkdev(1, 3), unix.Mkdev(4095, 1048575), unix.Mkdev(259, 70000)} {
				name := filepath.Join(root, fmt.Sprintf("%d-%d", i, device))
				must(t, unix.Mknod(name, kind|0o600, int(device)))
				must(t, unix.Chmod(name, 0o7777))
			}
		}
	},
	"500 directories deep": func(t *testing.T, root string) {
		at, err := unix.Open(root, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		for range 500 {
			must(t, err)
			must(t, unix.Mkdirat(at, "down", 0o755))
			next, openErr := unix.Openat(at, "down", unix.O_DIRECTORY|unix.O_RDONLY, 0)
			unix.Close(at)
			at, err = next, openErr
		}
		must(t, err)
		fd, err := unix.Openat(at, "bottom", unix.O_CREAT|unix.O_WRONLY, 0o644)
		must(t, err)
		must(t, unix.Linkat(at, "bottom", at, "again", 0))
		unix.Close(fd)
		unix.Close(at)
	},
}

// Packed, unpacked, mounted, and packed again with the record.
func TestExtremes(t *testing.T) {
	muchWork(t)
	needTools(t)
	for name, make := range extremes {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			dir := t.TempDir()
			root := filepath.Join(dir, "root")
			must(t, os.Mkdir(root, 0o755))
			make(t, root)
			s := source{filepath.Join(dir, "archive"), filepath.Join(dir, "record"), filepath.Join(dir, "tree")}
			packedWith(t, artifacts.PackOptions{})(root, s.archive)
			must(t, Unpack(t.Context(), s.archive, s.root, UnpackOptions{Record: s.record}))
			wantSame(t, root, s.root)
			wantSame(t, root, mountAt(t, "-o", "loop,ro", s.archive, t.TempDir()))
			again, _, _ := s.repack(t, artifacts.PackOptions{Record: s.record})
			if !bytes.Equal(read(t, s.archive), read(t, again)) {
				t.Error("packed again it is another archive")
			}
		})
	}
}

func TestTooManyOwners(t *testing.T) {
	muchWork(t)
	needTools(t)
	root := t.TempDir()
	for i := range 33_000 {
		name := filepath.Join(root, fmt.Sprint(i))
		must(t, unix.Mknod(name, unix.S_IFIFO|0o600, 0))
		must(t, os.Lchown(name, 1000+i, 100_000+i))
	}
	dir := t.TempDir()
	err := Packer{Log: slog.New(slog.DiscardHandler)}.Pack(t.Context(), root, filepath.Join(dir, "a"), artifacts.PackOptions{})
	if err == nil || !strings.Contains(err.Error(), "more than 65535 different users and groups: squashfs cannot hold them") {
		t.Errorf("error %v", err)
	}
	wantOnly(t, dir)
}

// A file that never stays the same while it is read is named.
func TestAFileThatChangesIsNamed(t *testing.T) {
	f := &feeder{settled: func(*node) {}, progress: &counter{}}
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "log"), []byte("line\n"), 0o644))
	file, err := os.Open(filepath.Join(root, "log"))
	must(t, err)
	defer file.Close()
	n := &node{name: "log", kind: typeFile}
	must(t, f.settle(&node{stamp: stampFor(t, file)}, int(file.Fd())))
	n.stamp = stampFor(t, file)
	must(t, unchanged(n, openFile(file.Fd())))
	appendTo(t, filepath.Join(root, "log"), []byte("another\n"))
	if err := unchanged(n, openFile(file.Fd())); !errors.Is(err, errChanged) {
		t.Errorf("error %v, want %v", err, errChanged)
	}
}

func stampFor(t *testing.T, f *os.File) stamp {
	t.Helper()
	s, err := stampFile(int(f.Fd()))
	must(t, err)
	return s
}
