package rootfs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Overlay is an image root that is mounted and not unpacked: a squashfs archive,
// read-only, and on top of it a directory that takes the changes. On disk are the
// archive and the directory of the layers; the mounts are made of them as often
// as needed, after a crash, too.
type Overlay struct {
	Root    string // where it is mounted: an absolute path without links
	Archive string
	Layers  string // holds lower, upper and work; nobody else may enter it
}

// Names in Layers. Upper and work must be on one file system.
const (
	lowerDir = "lower"
	upperDir = "upper"
	workDir  = "work"
)

// overlaySource is what an overlay of ours is called in the list of mounts.
const overlaySource = "buildenv-root"

// overlayOptions switch off what would make the upper directory something else
// than the list of changes: renamed directories, files of which metadata alone are
// copied up, and links that are counted elsewhere. With xino all files seem to be
// on one file system, as tar --one-file-system wants it, where numbers allow it.
const overlayOptions = "redirect_dir=off,metacopy=off,index=off,xino=on"

// Upper is the directory of the changes.
func (o Overlay) Upper() string { return filepath.Join(o.Layers, upperDir) }

func (o Overlay) lower() string { return filepath.Join(o.Layers, lowerDir) }

// Make makes the layers. They appear when they are whole: fill is given the upper
// directory, empty, before anybody can take it for a root's. Earlier layers must
// have been discarded.
func (o Overlay) Make(fill func(upper string) error) (err error) {
	made := Overlay{Layers: o.unfinished()}
	if err := os.RemoveAll(made.Layers); err != nil { // of a killed process
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(made.Layers))
		}
	}()
	for _, dir := range []string{made.Layers, made.lower(), made.Upper(), filepath.Join(made.Layers, workDir)} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	if err := fill(made.Upper()); err != nil {
		return err
	}
	return os.Rename(made.Layers, o.Layers)
}

// unfinished is where layers are made, and removed.
func (o Overlay) unfinished() string { return o.Layers + ".unfinished" }

// Exists tells whether there is such a root, mounted or not.
func (o Overlay) Exists() bool {
	info, err := os.Lstat(o.Layers)
	return err == nil && info.IsDir()
}

// Mount mounts the archive and the overlay; it needs CAP_SYS_ADMIN. On error
// nothing is mounted. Mounts of an earlier process are taken away first: what it
// had begun is not known. ErrInUse is returned if the layers are in use elsewhere.
func (o Overlay) Mount() error {
	alone, err := os.Open(filepath.Join(o.Layers, workDir))
	if err != nil {
		return err
	}
	defer alone.Close()
	if err := unix.Flock(int(alone.Fd()), unix.LOCK_EX); err != nil { // others that mount it wait here
		return os.NewSyscallError("lock", err)
	}
	if err := o.Unmount(); err != nil {
		return err
	}
	err = o.free()
	if err == nil {
		err = o.mountArchive()
	}
	if err == nil {
		err = o.mountOverlay()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("mount %s: %w", o.Root, err), o.Unmount())
	}
	return nil
}

func (o Overlay) mountArchive() error {
	f, err := os.Open(o.Archive)
	if err != nil {
		return err
	}
	defer f.Close()
	device, err := attachLoop(f)
	if err != nil {
		return fmt.Errorf("loop device: %w", privilege(err, sysAdmin))
	}
	defer device.Close() // the mount keeps it, and lets it go
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return os.NewSyscallError("mount squashfs", privilege(unix.Mount(device.Name(), o.lower(), "squashfs", flags, ""), sysAdmin))
}

const sysAdmin = "a privileged container with SYS_ADMIN"

// MayMount tells early why this process cannot mount, nil if it perhaps can.
func MayMount() error {
	var sets [2]unix.CapUserData
	err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &sets[0])
	if err == nil && sets[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		err = privilege(unix.EPERM, sysAdmin)
	}
	return os.NewSyscallError("mount", err)
}

func (o Overlay) mountOverlay() error {
	if err := os.Mkdir(o.Root, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	options := overlayOptions
	for _, dir := range []string{lowerDir, upperDir, workDir} {
		f, err := openLayer(filepath.Join(o.Layers, dir))
		if err != nil {
			return err
		}
		defer f.Close()
		options += "," + dir + "dir=" + mountPath(f)
	}
	return os.NewSyscallError("mount overlay", privilege(unix.Mount(overlaySource, o.Root, "overlay", 0, options), sysAdmin))
}

func openLayer(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// maxMountPath keeps three paths within the page that mount(2) has for options.
const maxMountPath = 1000

// mountPath is a directory's path in the options of an overlay. One with
// characters that mean something there, or that is too long, is named by its
// descriptor.
func mountPath(dir *os.File) string {
	if strings.ContainsAny(dir.Name(), `,:\"'`) || len(dir.Name()) > maxMountPath {
		return fdPath(dir)
	}
	return dir.Name()
}

// Mounted tells whether the root is the overlay and nothing else.
func (o Overlay) Mounted() (bool, error) {
	there, err := mountsAt(o.Root)
	if err != nil || len(there) != 1 {
		return false, err
	}
	below, err := mountsAt(o.lower())
	ours := there[0].FSType == "overlay" && there[0].Source == overlaySource
	return ours && len(below) == 1 && below[0].FSType == "squashfs", err
}

// mountsAt lists what is mounted on a directory, the last on top.
func mountsAt(dir string) ([]*mountinfo.Info, error) {
	infos, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return i.Mountpoint != dir, false })
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return infos, nil
}

// Unmount takes the mounts away, and all that is mounted on them; what is busy
// goes with its last user. If nothing is mounted, or the root is no overlay, it
// does nothing.
func (o Overlay) Unmount() error {
	if !o.Exists() {
		return nil
	}
	return cmp.Or(unmountFrom(o.Root), unmountFrom(o.lower()))
}

// unmountFrom takes away what is mounted on a directory and below it. What is on
// top may hide the rest.
func unmountFrom(dir string) error {
	for {
		hidden := UnmountAll(dir, nil)
		there, err := mountsAt(dir)
		if err != nil || len(there) == 0 {
			return cmp.Or(err, hidden)
		}
		if err := unmount(dir); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
}

// Discard removes the layers and the root, with all changes. If there are no
// layers it leaves the root alone.
func (o Overlay) Discard() error {
	if err := os.RemoveAll(o.unfinished()); err != nil || !o.Exists() {
		return err
	}
	if err := o.Unmount(); err != nil {
		return err
	}
	// Not a root without layers at any moment: it would be taken for an unpacked one.
	if err := os.Remove(o.Root); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(o.Layers, o.unfinished()); err != nil {
		return err
	}
	return os.RemoveAll(o.unfinished())
}
