package squashfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// folder is a directory in the making. It gets its metadata when nothing is
// made in it any more.
type folder struct {
	u     *unpacker
	fd    int
	name  string
	inode *Inode
	outer *folder      // nil for the root
	users atomic.Int32 // jobs and folders in it, and the walk
}

// path is for messages, and made only then: it can be long.
func (f *folder) path() string {
	if f.outer == nil {
		return "."
	}
	return join(f.outer.path(), f.name)
}

// place is a name in a folder.
type place struct {
	folder *folder
	name   string
}

func (f *folder) enter() { f.users.Add(1) }

func (f *folder) leave() error {
	if f.users.Add(-1) > 0 {
		return nil
	}
	err := f.u.finish(f.fd, f.path, f.inode)
	unix.Close(f.fd)
	if f.outer != nil {
		err = errors.Join(err, f.outer.leave())
	}
	return err
}

func (u *unpacker) walk(dir string) error {
	i, err := u.archive.inode(ref(u.archive.sb.Root))
	if err != nil {
		return err
	}
	if !i.isDirectory() {
		return malformed("the root is no directory")
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return u.fill(&folder{u: u, fd: fd, inode: i}, 0)
}

// fill makes what is in a directory.
func (u *unpacker) fill(f *folder, depth int) (err error) {
	f.enter()
	defer func() { err = errors.Join(err, f.leave()) }()
	if u.seen[f.inode.ref] || depth > maxDepth {
		return malformed("%.300q: a directory in itself, or in two places, or too deep", f.path())
	}
	u.seen[f.inode.ref] = true
	return u.archive.eachEntry(f.inode, func(e Entry) error {
		if u.ctx.Err() != nil {
			return context.Cause(u.ctx)
		}
		return u.entry(f, e, depth)
	})
}

func (u *unpacker) entry(f *folder, e Entry, depth int) error {
	i, err := u.archive.inode(e.ref)
	if err == nil && typeOf(i.Mode) != e.kind {
		err = malformed("an inode of another type than its entry")
	}
	if err == nil && i.isDirectory() {
		return u.directory(f, e.Name, i, depth) // tells names itself
	}
	if err == nil {
		err = u.other(f, e.Name, i)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", join(f.path(), e.Name), err)
	}
	return nil
}

// other makes what is no directory.
func (u *unpacker) other(f *folder, name string, i *Inode) error {
	first, again := u.linked[i.ref]
	if err := u.allow(i, again); err != nil {
		return err
	}
	if again {
		return u.link(first, f.fd, name)
	}
	if i.Links > 1 {
		u.linked[i.ref] = place{f, name}
	}
	if i.isFile() {
		return u.file(f, name, i)
	}
	return u.special(f, name, i)
}

// allow asks whether an entry may be made. Another name of a file has no content of its own.
func (u *unpacker) allow(i *Inode, again bool) error {
	switch {
	case u.opts.Allow == nil:
		return nil
	case again:
		return u.opts.Allow(0)
	}
	return u.opts.Allow(int64(min(i.Size, 1<<62)))
}

func (u *unpacker) directory(f *folder, name string, i *Inode, depth int) error {
	fd, err := u.makeFolder(f, name, i)
	if err != nil {
		return fmt.Errorf("%q: %w", join(f.path(), name), err)
	}
	f.enter()
	return u.fill(&folder{u: u, fd: fd, name: name, inode: i, outer: f}, depth+1)
}

func (u *unpacker) makeFolder(f *folder, name string, i *Inode) (fd int, err error) {
	if err := u.allow(i, false); err != nil {
		return -1, err
	}
	if err := unix.Mkdirat(f.fd, name, 0o700); err != nil {
		return -1, os.NewSyscallError("mkdir", err)
	}
	return openFolder(f.fd, name)
}

func openFolder(at int, name string) (int, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	return fd, os.NewSyscallError("open", err)
}

// link gives a file another name. Its first name is in a directory that may be
// closed by now, and is found again name by name.
func (u *unpacker) link(first place, at int, name string) error {
	dir, err := u.open(first.folder)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return os.NewSyscallError("link", unix.Linkat(dir, first.name, at, name, 0))
}
