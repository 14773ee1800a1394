package source

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"buildenv/artifacts/rootfs"
)

// openAt opens base in dir for reading, unless it is a symbolic link.
func openAt(dir *os.File, base string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), base), nil
}

// statAt describes base in dir, or dir's own file when base is "".
func statAt(dir *os.File, base string) (st unix.Statx_t, err error) {
	err = unix.Statx(int(dir.Fd()), base, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH,
		unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st)
	return st, err
}

// readlinkAt is the text of the symbolic link base in dir.
func readlinkAt(dir *os.File, base string) (string, error) {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), base, buffer)
	if err != nil {
		return "", err
	}
	return string(buffer[:n]), nil
}

// metaAt is the metadata of base itself, of which st is known already.
func metaAt(dir *os.File, base string, st unix.Statx_t) (rootfs.Meta, error) {
	xattrs, err := xattrsAt(dir, base)
	return rootfs.Meta{
		Mode:   uint32(st.Mode) & 0o7777,
		UID:    int(st.Uid),
		GID:    int(st.Gid),
		Mtime:  unix.Timespec{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)},
		Xattrs: xattrs,
	}, err
}

// xattrsAt reads the extended attributes of base itself, a link's own too.
// There is no *at call for that before Linux 6.13; the way through /proc
// follows dir's descriptor and not base.
func xattrsAt(dir *os.File, base string) ([]rootfs.Xattr, error) {
	file := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), base)
	size, err := unix.Llistxattr(file, nil)
	if size == 0 || errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	// The kernel's limit for a list and for a value: what has grown meanwhile fits too.
	buffer := make([]byte, 1<<16)
	if size, err = unix.Llistxattr(file, buffer); err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	var attrs []rootfs.Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buffer[:size]), "\x00"), "\x00") {
		n, err := unix.Lgetxattr(file, name, buffer)
		if err != nil {
			return nil, fmt.Errorf("read attribute %q: %w", name, err)
		}
		attrs = append(attrs, rootfs.Xattr{Name: name, Value: slices.Clone(buffer[:n])})
	}
	return attrs, nil
}
