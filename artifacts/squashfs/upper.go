package squashfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// upper is a directory of the upper layer of an overlay (overlayfs), beside the
// directory of the merged root that is looked at. What the upper layer has not, is
// the lower one's, which is the archive's. No file of it can have been changed: it
// would have been copied up.
//
// The merged root tells the truth about everything but inodes: names that have
// been linked after copying up are told to be different files there.
type upper struct {
	fd int // -1: the upper layer has no such directory
	// own says that nothing of the lower layer shines through: the directory is
	// opaque, or in one that is, or was moved here.
	own bool
}

// noUpper is for roots that are no overlay, and directories that have nothing of it.
var noUpper = upper{fd: -1, own: true}

// openUpper opens the upper layer of a root, "" if it is no overlay. It is for the
// caller to close.
func openUpper(dir string) (upper, error) {
	if dir == "" {
		return noUpper, nil
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return upper{fd: fd}, os.NewSyscallError("open the upper directory", err)
}

func (u upper) close() {
	if u.fd >= 0 {
		unix.Close(u.fd)
	}
}

// look tells whether a name that the merged root has is the lower layer's, and if
// not, what the upper layer has there, if it has.
func (u upper) look(name string) (lower bool, st unix.Statx_t, err error) {
	if u.fd < 0 {
		return !u.own, st, nil
	}
	err = unix.Statx(u.fd, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st)
	if errors.Is(err, unix.ENOENT) {
		return !u.own, st, nil
	}
	return false, st, os.NewSyscallError("stat in the upper directory", err)
}

// enter opens a directory below. It is for the caller to close.
func (u upper) enter(name string) (upper, error) {
	if u.fd < 0 {
		return u, nil
	}
	fd, err := openFolder(u.fd, name)
	if errors.Is(err, unix.ENOENT) {
		return upper{fd: -1, own: u.own}, nil
	}
	if gone(err) { // a whiteout, or another file: somebody has removed it since
		return noUpper, nil
	}
	if err != nil {
		return noUpper, err
	}
	below := upper{fd: fd, own: u.own}
	if below.own {
		return below, nil
	}
	below.own, err = coversLower(fd)
	if err != nil {
		unix.Close(fd)
		return noUpper, err
	}
	return below, nil
}

// coversLower tells whether a directory of the upper layer hides that of the lower
// one, or shows another one (Documentation/filesystems/overlayfs.rst).
func coversLower(fd int) (bool, error) {
	for _, name := range []string{"trusted.overlay.opaque", "trusted.overlay.redirect"} {
		_, err := unix.Fgetxattr(fd, name, nil)
		switch {
		case err == nil:
			return true, nil
		case !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP):
			return false, os.NewSyscallError("read "+name, err)
		}
	}
	return false, nil
}
