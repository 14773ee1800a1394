package source

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// aSquashfs is a small archive.
func aSquashfs(t *testing.T) string {
	t.Helper()
	needs(t, "mksquashfs")
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "file"), bytes.Repeat([]byte("content "), 1000), 0o644))
	image := filepath.Join(t.TempDir(), "image")
	run(t, "mksquashfs", root, image, "-quiet", "-no-progress")
	return image
}

// inMemory is a folder on a file system of its own.
func inMemory(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestKeep(t *testing.T) {
	image := aSquashfs(t)
	const kept, record = ".root.source", ".root.source.record"
	for name, c := range map[string]struct {
		keep Keep
		dir  func(t *testing.T) string
		want []string
		err  error
	}{
		"auto":                            {KeepAuto, func(t *testing.T) string { return t.TempDir() }, []string{kept, record, "root"}, nil},
		"always":                          {KeepAlways, func(t *testing.T) string { return t.TempDir() }, []string{kept, record, "root"}, nil},
		"never":                           {KeepNever, func(t *testing.T) string { return t.TempDir() }, []string{"root"}, nil},
		"not said":                        {"", func(t *testing.T) string { return t.TempDir() }, []string{"root"}, nil},
		"auto, with plenty of space":      {KeepAuto, func(t *testing.T) string { return inMemory(t, "1m") }, []string{kept, record, "root"}, nil},
		"auto, with little space":         {KeepAuto, func(t *testing.T) string { return inMemory(t, "28k") }, []string{record, "root"}, nil},
		"always, with little space":       {KeepAlways, func(t *testing.T) string { return inMemory(t, "28k") }, []string{kept, record, "root"}, nil},
		"always, with no space":           {KeepAlways, func(t *testing.T) string { return inMemory(t, "3k") }, nil, unix.ENOSPC},
		"always, with no space to unpack": {KeepAlways, func(t *testing.T) string { return inMemory(t, "8k") }, nil, unix.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) {
			dir := c.dir(t)
			before := contentOf(t, image)
			err := Unpack(t.Context(), image, filepath.Join(dir, "root"), Options{Keep: c.keep})
			if !errors.Is(err, c.err) {
				t.Errorf("Unpack = %v, want %v", err, c.err)
			}
			leftovers(t, dir, c.want...)
			if archive, _ := Kept(filepath.Join(dir, "root")); len(c.want) == 3 && !bytes.Equal(contentOf(t, archive), before) {
				t.Error("what is kept is another archive")
			}
		})
	}
}

func contentOf(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	must(t, err)
	return content
}

// What was kept of another source must not be taken for this one's.
func TestAnEarlierSourceIsForgotten(t *testing.T) {
	image, dir := aSquashfs(t), t.TempDir()
	dst := filepath.Join(dir, "root")
	must(t, Unpack(t.Context(), image, dst, Options{Keep: KeepAuto}))
	must(t, os.RemoveAll(dst))
	must(t, os.Mkdir(filepath.Join(dir, "folder"), 0o755))
	must(t, Unpack(t.Context(), filepath.Join(dir, "folder"), dst, Options{Keep: KeepAuto}))
	leftovers(t, dir, "folder", "root")
	if _, err := os.Stat(image); errors.Is(err, fs.ErrNotExist) {
		t.Error("the source itself is gone")
	}
}
