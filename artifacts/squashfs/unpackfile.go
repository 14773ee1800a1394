package squashfs

import (
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// chunk is how many blocks one goroutine writes of a large file.
const chunk = 64

// newFile is a regular file in the making. Whoever writes its last part gives
// it its metadata.
type newFile struct {
	folder *folder
	name   string
	inode  *Inode
	fd     int
	parts  atomic.Int32 // that are not yet written
	failed atomic.Bool
}

// file has a regular file made by the other goroutines. One with several names
// is there at once, so that the others can be linked to it.
func (u *unpacker) file(f *folder, name string, i *Inode) error {
	n := &newFile{folder: f, name: name, inode: i, fd: -1}
	parts := max(1, (len(i.file.blocks)+chunk-1)/chunk)
	if parts > 1 || i.Links > 1 {
		if err := n.create(); err != nil {
			return err
		}
	}
	f.enter()
	n.parts.Store(int32(parts))
	starts := i.starts()
	for p := range parts {
		from, to := p*chunk, min((p+1)*chunk, len(starts))
		u.jobs <- func(s *scratch) error {
			err := n.part(s, starts, from, to)
			if err != nil {
				err = fmt.Errorf("%q: %w", join(f.path(), name), err)
			}
			return err
		}
	}
	return nil
}

func (n *newFile) path() string { return join(n.folder.path(), n.name) }

func (n *newFile) create() (err error) {
	n.fd, err = unix.Openat(n.folder.fd, n.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	return os.NewSyscallError("create", err)
}

// part writes the blocks from one to another; the last part writes the tail, too.
func (n *newFile) part(s *scratch, starts []uint64, from, to int) (err error) {
	if !n.failed.Load() && n.folder.u.ctx.Err() == nil {
		err = n.write(s, starts, from, to)
	}
	if err != nil {
		n.failed.Store(true)
	}
	if n.parts.Add(-1) > 0 {
		return err
	}
	if n.fd >= 0 {
		if err == nil && !n.failed.Load() {
			err = n.folder.u.finishFile(n)
		}
		unix.Close(n.fd)
	}
	if left := n.folder.leave(); err == nil {
		err = left
	}
	return err
}

func (n *newFile) write(s *scratch, starts []uint64, from, to int) error {
	if n.fd < 0 {
		if err := n.create(); err != nil {
			return err
		}
	}
	a, i := n.folder.u.archive, n.inode
	for b := from; b < to; b++ {
		stored := dataBlock{starts[b], i.file.blocks[b]}
		if stored.bytes() == 0 {
			continue // a hole
		}
		block := s.block[:a.blockLength(i, b)]
		if err := a.exactly(block, s.stored, stored); err != nil {
			return err
		}
		if err := pwrite(n.fd, block, int64(b)*int64(a.sb.BlockSize)); err != nil {
			return err
		}
	}
	if to < len(starts) || i.file.fragment == noFragment {
		return nil
	}
	tail, err := a.tail(i)
	if err != nil {
		return err
	}
	return pwrite(n.fd, tail, int64(len(starts))*int64(a.sb.BlockSize))
}

func pwrite(fd int, p []byte, at int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, at)
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

func (u *unpacker) finishFile(n *newFile) error {
	if blocks := n.inode.file.blocks; len(blocks) > 0 && n.inode.file.fragment == noFragment {
		if err := unix.Ftruncate(n.fd, int64(n.inode.Size)); err != nil { // it may end with a hole
			return os.NewSyscallError("truncate", err)
		}
	}
	err := u.finish(n.fd, n.path, n.inode)
	if err == nil && u.identities != nil && n.inode.Links == 1 {
		err = u.identify(n.inode.ref, n.fd)
	}
	return err
}

// finish gives an open file or directory its metadata. The order matters: a
// change of owner clears set-user-ID bits and capabilities, and writing
// attributes may need more than the final mode permits.
func (u *unpacker) finish(fd int, path func() string, i *Inode) error {
	if i.UID != u.uid || i.GID != u.gid {
		if err := unix.Fchown(fd, int(i.UID), int(i.GID)); err != nil {
			return fmt.Errorf("%q: owner %d:%d: %w", path(), i.UID, i.GID, privilege(err))
		}
	}
	err := u.eachXattr(i, func(x Xattr) error { return unix.Fsetxattr(fd, x.Name, x.Value, 0) })
	if err == nil {
		err = os.NewSyscallError("chmod", unix.Fchmod(fd, i.Mode&0o7777))
	}
	if err == nil {
		err = os.NewSyscallError("set times", setTimes(fd, i.Mtime))
	}
	if err != nil {
		return fmt.Errorf("%q: %w", path(), err)
	}
	return nil
}

// setTimes is futimens(3), which is utimensat(2) without a path.
func setTimes(fd int, seconds uint32) error {
	at := unix.Timespec{Sec: int64(seconds)}
	times := [2]unix.Timespec{at, at}
	if _, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// finishNamed is finish for what is not opened: links, devices, sockets.
func (u *unpacker) finishNamed(f *folder, name string, i *Inode) error {
	if err := unix.Fchownat(f.fd, name, int(i.UID), int(i.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("owner %d:%d: %w", i.UID, i.GID, privilege(err))
	}
	path := throughProc(f.fd, name)
	if err := u.eachXattr(i, func(x Xattr) error { return unix.Lsetxattr(path, x.Name, x.Value, 0) }); err != nil {
		return err
	}
	if i.format() != unix.S_IFLNK {
		if err := unix.Fchmodat(f.fd, name, i.Mode&0o7777, 0); err != nil {
			return os.NewSyscallError("chmod", err)
		}
	}
	at := unix.Timespec{Sec: int64(i.Mtime)}
	return os.NewSyscallError("set times", unix.UtimesNanoAt(f.fd, name, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
}

// eachXattr sets a file's attributes. One that cannot be held here is noted.
func (u *unpacker) eachXattr(i *Inode, set func(Xattr) error) error {
	list, err := u.archive.Xattrs(i)
	if err != nil {
		return err
	}
	for _, x := range list {
		switch err := set(x); err {
		case nil:
		case unix.ENOTSUP, unix.EPERM:
			u.lost.add(x.Name, err)
		default:
			return fmt.Errorf("set attribute %q: %w", x.Name, err)
		}
	}
	return nil
}

// open opens a folder again, name by name from the new root.
func (u *unpacker) open(f *folder) (int, error) {
	var names []string
	for ; f.outer != nil; f = f.outer {
		names = append(names, f.name)
	}
	dir, err := unix.FcntlInt(uintptr(u.root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("dup", err)
	}
	for _, name := range slices.Backward(names) {
		next, err := openFolder(dir, name)
		unix.Close(dir)
		if err != nil {
			return -1, err
		}
		dir = next
	}
	return dir, nil
}
