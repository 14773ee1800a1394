package squashfs

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// linkedFile is a file with several names, and what it is compared with.
type linkedFile struct {
	fileID
	then ref
}

// maxLinked bounds what is remembered of files with several names; those beyond
// are compared once for each name.
const maxLinked = 1 << 18

// metadata notes what has changed of all but a file's content.
func (c *comparison) metadata(p spot, st unix.Statx_t, f *finding) error {
	then := f.then
	note := func(differs bool, what string) {
		if differs {
			f.What = append(f.What, what)
		}
	}
	switch then.format() {
	case unix.S_IFLNK:
		target, err := readLink(p.dir, p.name)
		note(err != nil || target != then.Target, "target")
	case unix.S_IFBLK, unix.S_IFCHR:
		note(encodeDevice(unix.Mkdev(st.Rdev_major, st.Rdev_minor)) != then.Device, "device")
	}
	note(st.Uid != then.UID || st.Gid != then.GID, "owner")
	note(uint32(st.Mode)&0o7777 != then.Mode&0o7777, "mode")
	is := max(0, min(st.Mtime.Sec, c.clamp, math.MaxUint32))
	note(is != min(int64(then.Mtime), c.clamp) && !then.isDirectory(), "mtime") // a clamp is no change
	now, lost, err := readAttributes(p.dir, p.name, c.buffer, c.layered)
	if err != nil && !gone(err) {
		return err
	}
	was, err := c.from.Xattrs(then)
	note(!sameXattrs(now, was), "xattr")
	f.Lost = lost
	return err
}

func sameXattrs(a, b []Xattr) bool {
	byName := func(a, b Xattr) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(a, byName)
	slices.SortFunc(b, byName)
	return slices.EqualFunc(a, b, func(a, b Xattr) bool { return a.Name == b.Name && bytes.Equal(a.Value, b.Value) })
}

// content finds out whether a file's content has to be compared to know whether
// it has changed, and opens the file then.
func (c *comparison) content(p spot, st unix.Statx_t, f *finding) error {
	if st.Size != f.then.Size {
		f.differs = true
		return nil
	}
	if st.Size == 0 || c.identities != nil && c.identities.unchanged(f.then.ref, stampOf(st)) {
		return nil
	}
	if st.Nlink > 1 {
		id := linkedFile{fileID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, f.then.ref}
		if f.other = c.linked[id]; f.other != nil {
			return nil
		}
		if len(c.linked) < maxLinked {
			c.linked[id] = f
		}
	}
	fd, err := unix.Openat(p.dir, p.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if gone(err) {
		f.differs = true
		return nil
	}
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	file := openFile(fd)
	if now, err := stampFile(fd); err != nil || now.ino != st.Ino { // another one meanwhile, or a fifo
		f.differs = true
		file.close()
		return err
	}
	f.file, f.done = file, make(chan struct{})
	return nil
}

// contents compares files until there are no more. When nobody wants to know any
// more it closes them.
func (c *comparison) contents() {
	size := c.from.sb.BlockSize
	is, was, stored := make([]byte, size), make([]byte, size), make([]byte, size)
	for f := range c.work {
		if f.err = c.ctx.Err(); f.err == nil {
			f.differs, f.err = c.from.differs(f.then, f.file, is, was, stored)
		}
		f.file.close()
		close(f.done)
	}
}

// differs tells whether a file's content is not that of an inode. They have the
// same size. The buffers are of a block each.
func (a *Archive) differs(i *Inode, file openFile, is, was, stored []byte) (bool, error) {
	start := i.file.start
	for n, size := range i.file.blocks {
		at, length := int64(n)*int64(a.sb.BlockSize), a.blockLength(i, n)
		b := dataBlock{start, size}
		start += uint64(b.bytes())
		if b.bytes() == 0 && nextData(file, at, int64(i.Size)) >= at+int64(length) {
			continue // a hole in both
		}
		if err := a.exactly(was[:length], stored, b); err != nil {
			return false, err
		}
		if differs, err := differsAt(file, at, is, was[:length]); differs || err != nil {
			return differs, err
		}
	}
	if i.file.fragment == noFragment {
		return false, nil
	}
	tail, err := a.tail(i)
	if err != nil {
		return false, err
	}
	return differsAt(file, int64(len(i.file.blocks))*int64(a.sb.BlockSize), is, tail)
}

func differsAt(file openFile, at int64, is, was []byte) (bool, error) {
	err := readFull(file, is[:len(was)], at)
	if errors.Is(err, errChanged) {
		return true, nil
	}
	return err == nil && !bytes.Equal(is[:len(was)], was), err
}
