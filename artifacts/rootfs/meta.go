package rootfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Xattr is an extended attribute with its full name, "security.capability".
type Xattr struct {
	Name  string
	Value []byte
}

// Meta is what a file system keeps about a file besides its content.
type Meta struct {
	Mode   uint32 // permission bits with setuid, setgid and sticky; type bits are ignored
	UID    int
	GID    int
	Mtime  unix.Timespec // Nsec unix.UTIME_OMIT leaves the time as it is
	Xattrs []Xattr
}

// Now is a Mtime that leaves a new file's time as it is.
var Now = unix.Timespec{Nsec: unix.UTIME_OMIT}

// Apply gives the metadata to an open file or handle (see [Root.Handle]).
//
// The order matters: a change of owner clears setuid bits and capabilities, so
// it comes first; writing attributes may need more permission than the final
// mode gives. An attribute that the file system or the process's privileges
// cannot hold is reported to lost and does not stop the rest; lost may be nil.
func (m Meta) Apply(f *os.File, lost func(attr string, err error)) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if err := unix.Fchownat(int(f.Fd()), "", m.UID, m.GID, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("set owner %d:%d: %w", m.UID, m.GID, privilege(err, "root, with CAP_CHOWN"))
	}
	path := fdPath(f)
	for _, attr := range m.Xattrs {
		err := unix.Setxattr(path, attr.Name, attr.Value, 0)
		switch {
		case errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM):
			if lost != nil {
				lost(attr.Name, err)
			}
		case err != nil:
			return fmt.Errorf("set attribute %q: %w", attr.Name, err)
		}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(path, m.Mode&0o7777); err != nil {
			return fmt.Errorf("set mode %04o: %w", m.Mode&0o7777, err)
		}
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, m.Mtime}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, times, 0); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}

// Handle opens name itself, a symbolic link too, without access to its content
// (O_PATH): it opens no device and blocks on no fifo. It serves Meta.Apply,
// Fstat and the like.
func (r *Root) Handle(name string) (handle *os.File, err error) {
	err = r.within("open", name, func(dir int, base string) error {
		handle, err = openHandle(dir, base)
		return err
	})
	return handle, err
}

func openHandle(dir int, base string) (*os.File, error) {
	fd, err := unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), base), nil
}

// fdPath leads to exactly the file that f has open, whatever has become of its
// name, and stops there when it is a symbolic link. It gives handles the calls
// that have no variant for descriptors (proc(5), /proc/pid/fd).
func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// privilege explains a refusal that has nothing to do with the root's content.
func privilege(err error, needs string) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (needs %s)", err, needs)
	}
	return err
}
