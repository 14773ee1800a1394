package source

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// unmounted sees to it that a test leaves no mounts.
func unmounted(t *testing.T, dst string) {
	t.Cleanup(func() {
		if err := OverlayOf(dst).Unmount(); err != nil {
			t.Error(err)
		}
	})
}

// hostileSquashfs is an archive with a device that an overlay would hide.
func hostileSquashfs(t *testing.T) string {
	t.Helper()
	return squashfsOf(t, func(root string) error { return unix.Mknod(filepath.Join(root, "hidden"), unix.S_IFCHR, 0) })
}

func squashfsOf(t *testing.T, fill func(root string) error) string {
	t.Helper()
	needs(t, "mksquashfs")
	root := t.TempDir()
	must(t, fill(root))
	image := filepath.Join(t.TempDir(), "image")
	run(t, "mksquashfs", root, image, "-quiet", "-no-progress")
	return image
}

func TestMake(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	image, hostile, folder := aSquashfs(t), hostileSquashfs(t), t.TempDir()
	inTheWay := squashfsOf(t, func(root string) error { return os.MkdirAll(filepath.Join(root, "etc/resolv.conf"), 0o755) })
	const kept, record, layers = ".root.source", ".root.source.record", ".root.overlay"
	for name, c := range map[string]struct {
		src  string
		mode Mode
		keep Keep
		want []string
		log  string // or error
		err  bool
	}{
		"overlay":                   {image, ModeOverlay, KeepAuto, []string{layers, kept, record, "root"}, "is an overlay on its source", false},
		"auto":                      {image, ModeAuto, KeepAuto, []string{layers, kept, record, "root"}, "is an overlay on its source", false},
		"unpack":                    {image, ModeUnpack, KeepAuto, []string{kept, record, "root"}, "", false},
		"auto, a folder":            {folder, ModeAuto, KeepAuto, []string{"root"}, "only a squashfs can be mounted", false},
		"overlay, a folder":         {folder, ModeOverlay, KeepAuto, nil, "only a squashfs can be mounted", true},
		"auto, a hidden device":     {hostile, ModeAuto, KeepAuto, []string{kept, record, "root"}, `\"hidden\" is a device 0:0`, false},
		"overlay, a hidden device":  {hostile, ModeOverlay, KeepAuto, nil, `"hidden" is a device 0:0`, true},
		"auto, a folder in the way": {inTheWay, ModeAuto, KeepAuto, []string{kept, record, "root"}, `\"etc/resolv.conf\" is a directory`, false},
		"auto, not kept":            {image, ModeAuto, KeepNever, []string{"root"}, "must be kept", false},
		"overlay, not kept":         {image, ModeOverlay, KeepNever, nil, "must be kept", true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			dst := filepath.Join(dir, "root")
			unmounted(t, dst)
			var log bytes.Buffer
			err := Make(t.Context(), c.mode, c.src, dst, Options{Keep: c.keep, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if (err != nil) != c.err {
				t.Errorf("Make = %v", err)
			}
			if said := log.String() + errorText(err); !strings.Contains(said, c.log) || strings.Count(said, "unpacked, not mounted") > 1 {
				t.Errorf("said %q, want %q", said, c.log)
			}
			leftovers(t, dir, c.want...)
			if mounted, err := OverlayOf(dst).Mounted(); err != nil || mounted != (len(c.want) == 4) {
				t.Errorf("mounted: %v, %v", mounted, err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A device that an overlay would hide is in the root, and so in the next archive.
func TestMakeKeepsHiddenDevices(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("devices need root")
	}
	dst := filepath.Join(t.TempDir(), "root")
	unmounted(t, dst)
	must(t, Make(t.Context(), ModeAuto, hostileSquashfs(t), dst, Options{Keep: KeepAuto}))
	if info, err := os.Lstat(filepath.Join(dst, "hidden")); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("%v, %v", info, err)
	}
}

// Whoever makes another root there gets the new source's, with nothing of the old
// layers; a cancelled one leaves nothing.
func TestMakeAnew(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	image, dir := aSquashfs(t), t.TempDir()
	dst := filepath.Join(dir, "root")
	unmounted(t, dst)
	opts := Options{Keep: KeepAuto}
	must(t, Make(t.Context(), ModeOverlay, image, dst, opts))
	must(t, os.WriteFile(filepath.Join(dst, "mine"), nil, 0o644))
	if err := Make(t.Context(), ModeOverlay, image, dst, opts); !errors.Is(err, os.ErrExist) {
		t.Errorf("over somebody's work: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dst, "mine")); err != nil {
		t.Error(err)
	}
	must(t, OverlayOf(dst).Unmount())
	must(t, os.Remove(dst))
	must(t, Make(t.Context(), ModeOverlay, image, dst, opts))
	if names, err := os.ReadDir(dst); len(names) != 1 || err != nil {
		t.Errorf("in the new root: %v, %v", names, err)
	}
	must(t, OverlayOf(dst).Unmount())
	must(t, os.Remove(dst))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Make(cancelled, ModeAuto, image, dst, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	leftovers(t, dir)
}

// However a root is named, it is the same overlay.
func TestOverlayOf(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	must(t, errors.Join(os.Mkdir(filepath.Join(dir, "parent"), 0o755), os.Mkdir(filepath.Join(dir, "parent/root"), 0o755), os.Symlink("parent", filepath.Join(dir, "link"))))
	want := OverlayOf(filepath.Join(dir, "parent/root"))
	if want.Root != filepath.Join(dir, "parent/root") || want.Archive != filepath.Join(dir, "parent/.root.source") || want.Layers != filepath.Join(dir, "parent/.root.overlay") {
		t.Errorf("%+v", want)
	}
	t.Chdir(filepath.Join(dir, "parent/root"))
	for _, name := range []string{".", "../root/", dir + "/link/root", dir + "/parent/./root//"} {
		if got := OverlayOf(name); got != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
