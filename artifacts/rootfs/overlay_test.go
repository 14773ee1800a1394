package rootfs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newOverlay is an overlay of an archive with the file "a", in a folder with a
// name that means something in options.
func newOverlay(t *testing.T) Overlay {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	if _, err := exec.LookPath("mksquashfs"); err != nil {
		t.Skip("mksquashfs is not installed")
	}
	parent := filepath.Join(t.TempDir(), `a:b,c\d e`)
	in := func(name string) string { return filepath.Join(parent, name) }
	for _, dir := range []string{parent, in("source")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(in("source/a"), []byte("from the archive\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mksquashfs", in("source"), in("archive"), "-quiet", "-no-progress").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o := Overlay{Root: in("root"), Archive: in("archive"), Layers: in("layers")}
	if err := o.Make(func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return o
}

func wantMounted(t *testing.T, o Overlay, want bool) {
	t.Helper()
	if got, err := o.Mounted(); got != want || err != nil {
		t.Errorf("mounted: %v, %v, want %v", got, err, want)
	}
}

func TestOverlayKeepsChanges(t *testing.T) {
	o := newOverlay(t)
	wantMounted(t, o, false)
	for range 2 { // the second time as after a crash: it is mounted already
		if err := o.Mount(); err != nil {
			t.Fatal(err)
		}
		wantMounted(t, o, true)
	}
	a := filepath.Join(o.Root, "a")
	if content, err := os.ReadFile(a); string(content) != "from the archive\n" {
		t.Errorf("%q, %v", content, err)
	}
	if err := os.WriteFile(a, []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := o.Unmount(); err != nil {
		t.Fatal(err)
	}
	wantMounted(t, o, false)
	if err := o.Mount(); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(a); string(content) != "changed" {
		t.Errorf("%q, %v", content, err)
	}
}

// Whatever is mounted on it and in use goes, too; loop devices are let go.
func TestOverlayUnmountsAll(t *testing.T) {
	o := newOverlay(t)
	if err := o.Mount(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(o.Root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(o.Root, "proc"), o.Root} {
		if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	wantMounted(t, o, false) // something else is on top
	busy, err := os.Open(o.Root)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := o.Unmount(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{o.Root, o.lower()} {
		if there, err := mountsAt(dir); len(there) > 0 || err != nil {
			t.Errorf("%s: %v, %v", dir, there, err)
		}
	}
	out, err := exec.Command("losetup", "--associated", o.Archive).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("loop devices: %s, %v", out, err)
	}
	if err := o.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(o.Root); err == nil || o.Exists() {
		t.Error("it is still there")
	}
}

func TestOverlayOfNoArchive(t *testing.T) {
	o := newOverlay(t)
	if err := os.WriteFile(o.Archive, make([]byte, 8192), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := o.Mount(); err == nil {
		t.Error("mounted")
	}
	wantMounted(t, o, false)
	if there, _ := mountsAt(o.lower()); len(there) > 0 {
		t.Errorf("left mounted: %v", there)
	}
}

// Layers that are being made are no root's yet, and a killed process's are made anew.
func TestOverlayAppearsWhole(t *testing.T) {
	o := newOverlay(t)
	if err := o.Discard(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := o.Make(func(upper string) error {
			if o.Exists() {
				t.Error("it exists already")
			}
			return errors.Join(os.Mkdir(filepath.Join(upper, "left"), 0o700), errors.ErrUnsupported)
		})
		if !errors.Is(err, errors.ErrUnsupported) || o.Exists() {
			t.Errorf("exists: %v; %v", o.Exists(), err)
		}
		if err := os.MkdirAll(filepath.Join(o.unfinished(), upperDir, "killed"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Make(func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if names, err := os.ReadDir(o.Upper()); len(names) > 0 || err != nil {
		t.Errorf("in the upper directory: %v, %v", names, err)
	}
}

// A root that is no overlay of ours is left alone, whatever is mounted on it.
func TestOverlayLeavesOthersAlone(t *testing.T) {
	o := newOverlay(t)
	if err := errors.Join(o.Discard(), os.Mkdir(o.Root, 0o755), unix.Mount("none", o.Root, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(o.Root, unix.MNT_DETACH)
	if err := errors.Join(o.Unmount(), o.Discard()); err != nil {
		t.Fatal(err)
	}
	if there, err := mountsAt(o.Root); len(there) != 1 || err != nil {
		t.Errorf("mounted: %v, %v", there, err)
	}
}

// Layers are never mounted twice: not while processes use an overlay that has been
// detached, and not while it is mounted in another mount namespace.
func TestOverlayInUse(t *testing.T) {
	o := newOverlay(t)
	if err := o.Mount(); err != nil {
		t.Fatal(err)
	}
	busy, err := os.Open(o.Root)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Unmount(); err != nil {
		t.Fatal(err)
	}
	if err := o.Mount(); !errors.Is(err, ErrInUse) {
		t.Errorf("detached and busy: %v", err)
	}
	wantMounted(t, o, false)
	if there, _ := mountsAt(o.lower()); len(there) > 0 {
		t.Errorf("left mounted: %v", there)
	}
	busy.Close()
	if err := o.Mount(); err != nil {
		t.Fatal(err)
	}
	wantMounted(t, o, true)

	other := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo ready; read go")
	other.Stderr = os.Stderr
	done, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := said.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := o.Unmount(); err != nil { // here, not there
		t.Fatal(err)
	}
	if err := o.Mount(); !errors.Is(err, ErrInUse) {
		t.Errorf("in another mount namespace: %v", err)
	}
	wantMounted(t, o, false)
	if err := errors.Join(done.Close(), ignoreExit(other.Wait())); err != nil {
		t.Fatal(err)
	}
	if err := o.Mount(); err != nil {
		t.Fatal(err)
	}
	if names, err := filepath.Glob(strings.NewReplacer("\\", "\\\\").Replace(o.Layers) + "/*"); len(names) != 3 || err != nil {
		t.Errorf("in the folder of the layers: %q, %v", names, err)
	}
}

func ignoreExit(err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil
	}
	return err
}
