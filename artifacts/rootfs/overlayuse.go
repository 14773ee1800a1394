package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse is returned when another overlay writes to the layers: one that is
// mounted in another mount namespace, or was detached here while it was busy.
var ErrInUse = errors.New("an overlay that cannot be seen from here uses the layers: in another container or mount namespace, or kept by processes that are still in it")

// useTries and useWait are how long layers are waited for: a mount namespace that
// ends lets its mounts go a moment later.
const (
	useTries = 10
	useWait  = 100 * time.Millisecond
)

// free fails with ErrInUse unless nobody writes to the layers. Two overlays with
// one upper directory destroy each other's work, and neither would notice.
func (o Overlay) free() error {
	for range useTries {
		err := o.probe()
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(useWait)
	}
	return ErrInUse
}

// probeDir is the name in Layers of what a probe needs and removes.
const probeDir = "probe"

// probe has the kernel make another overlay, which is mounted nowhere, with the
// upper directory as its lower one. With an index, and only then, the kernel
// refuses a directory that is another overlay's upper one, in whatever mount
// namespace that is (ovl_report_in_use in fs/overlayfs/super.c).
func (o Overlay) probe() (err error) {
	dir := filepath.Join(o.Layers, probeDir)
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, made := range []string{dir, filepath.Join(dir, upperDir), filepath.Join(dir, workDir)} {
		if err := os.Mkdir(made, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	context, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen overlay", privilege(err, sysAdmin))
	}
	defer unix.Close(context)
	for _, layer := range [][2]string{{"lowerdir", o.Upper()}, {"upperdir", filepath.Join(dir, upperDir)}, {"workdir", filepath.Join(dir, workDir)}} {
		f, err := openLayer(layer[1])
		if err != nil {
			return err
		}
		defer f.Close()
		if err := unix.FsconfigSetString(context, layer[0], mountPath(f)); err != nil {
			return fmt.Errorf("probe the layers: %s: %w", layer[0], err)
		}
	}
	if err := unix.FsconfigSetString(context, "index", "on"); err != nil {
		return fmt.Errorf("probe the layers: index: %w", err)
	}
	return os.NewSyscallError("probe the layers", privilege(unix.FsconfigCreate(context), sysAdmin))
}
