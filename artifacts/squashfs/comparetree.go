package squashfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"buildenv/artifacts"
)

// tree compares everything.
func (c *comparison) tree(root int) error {
	then, err := c.from.inode(ref(c.from.sb.Root))
	if err == nil && !then.isDirectory() {
		err = malformed("the root is no directory")
	}
	if err != nil {
		return err
	}
	st, err := statAt(root, ".")
	if err != nil {
		return err
	}
	c.mount = mountOf(st)
	return c.pair(spot{root, ".", ".", 0}, st, then)
}

// spot is a name in an open directory of the root.
type spot struct {
	dir   int // descriptor
	name  string
	path  string // below the root
	depth int
}

func (p spot) in(dir int, name string) spot {
	return spot{dir, name, join(p.path, name), p.depth + 1}
}

func statAt(dir int, name string) (st unix.Statx_t, err error) {
	err = unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW, statMask, &st)
	return st, os.NewSyscallError("stat", err)
}

// directory compares what is in a directory; then is nil if there was none.
func (c *comparison) directory(p spot, then *Inode) error {
	if p.depth > maxDepth {
		return fmt.Errorf("%.300q: directories lie too deep in each other", p.path)
	}
	fd, err := openFolder(p.dir, p.name)
	if gone(err) {
		return c.removedIn(p.path, then, p.depth)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", p.path, err)
	}
	defer unix.Close(fd)
	outer := c.upper
	defer func() { c.upper = outer }()
	if p.name != "." {
		if c.upper, err = outer.enter(p.name); err != nil {
			return fmt.Errorf("%q: %w", p.path, err)
		}
		if c.upper.fd >= 0 {
			defer unix.Close(c.upper.fd)
		}
	}
	names, err := readNames(fd)
	if err != nil {
		return fmt.Errorf("%q: %w", p.path, err)
	}
	err = c.eachOld(then, func(e Entry) error {
		for len(names) > 0 && names[0] < e.Name {
			if err := c.added(p.in(fd, names[0])); err != nil {
				return err
			}
			names = names[1:]
		}
		if len(names) == 0 || names[0] != e.Name {
			return c.removed(join(p.path, e.Name), e, p.depth+1)
		}
		names = names[1:]
		return c.entry(p.in(fd, e.Name), e)
	})
	for _, name := range names {
		if err == nil {
			err = c.added(p.in(fd, name))
		}
	}
	return err
}

// eachOld visits what the archive has in a directory, which must be sorted, and
// the directory in no other place.
func (c *comparison) eachOld(dir *Inode, visit func(Entry) error) error {
	if dir == nil {
		return c.ctx.Err()
	}
	if c.seen[dir.ref] {
		return malformed("inode %d: a directory in itself, or in two places", dir.Number)
	}
	c.seen[dir.ref] = true
	last := ""
	return c.from.eachEntry(dir, func(e Entry) error {
		if e.Name <= last {
			return malformed("inode %d: %.300q follows %.300q in a directory", dir.Number, e.Name, last)
		}
		last = e.Name
		if err := c.ctx.Err(); err != nil {
			return err
		}
		return visit(e)
	})
}

// gone is what calls say when somebody has taken the name away meanwhile.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// entry compares a name that there is and was.
func (c *comparison) entry(p spot, e Entry) error {
	st, err := statAt(p.dir, p.name)
	if gone(err) {
		return c.removed(p.path, e, p.depth)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", p.path, err)
	}
	if c.overlay && mountOf(st) == c.mount {
		lower, _, err := c.upper.look(p.name)
		if lower || err != nil { // and so is all that is in it
			return err
		}
	}
	then, err := c.old(e)
	if err != nil {
		return err
	}
	return c.pair(p, st, then)
}

func (c *comparison) old(e Entry) (*Inode, error) {
	i, err := c.from.inode(e.ref)
	if err == nil && typeOf(i.Mode) != e.kind {
		err = malformed("%.300q: an inode of another type than its entry", e.Name)
	}
	return i, err
}

// removed tells of a name that was, and of all that was in it.
func (c *comparison) removed(path string, e Entry, depth int) error {
	i, err := c.old(e)
	if err != nil {
		return err
	}
	err = c.report(&finding{Change: artifacts.Change{Kind: artifacts.Removed, Path: path, Type: typeName(i.Mode), Size: int64(i.Size)}})
	if err != nil || !i.isDirectory() {
		return err
	}
	return c.removedIn(path, i, depth)
}

func (c *comparison) removedIn(path string, dir *Inode, depth int) error {
	if depth > maxDepth {
		return malformed("%.300q: directories lie too deep in each other", path)
	}
	return c.eachOld(dir, func(e Entry) error { return c.removed(join(path, e.Name), e, depth+1) })
}

// added tells of a name that is new, and of all that is in it.
func (c *comparison) added(p spot) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	st, err := statAt(p.dir, p.name)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%q: %w", p.path, err)
	}
	f := newFinding(p, st, artifacts.Added)
	if mountOf(st) != c.mount {
		f.Kind = artifacts.Hidden
		return c.report(f)
	}
	if _, f.Lost, err = readAttributes(p.dir, p.name, c.buffer, c.layered); err != nil && !gone(err) {
		return fmt.Errorf("%q: %w", p.path, err)
	}
	if err := c.report(f); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	return c.directory(p, nil)
}

// pair compares what is under a name with what was, and what is in it.
func (c *comparison) pair(p spot, st unix.Statx_t, then *Inode) error {
	f := newFinding(p, st, artifacts.Changed)
	if mountOf(st) != c.mount {
		f.Kind = artifacts.Hidden
		return c.report(f)
	}
	f.then, f.Was = then, int64(then.Size)
	if typeOf(uint32(st.Mode)) != typeOf(then.Mode) {
		return c.retyped(p, st, f)
	}
	if err := c.metadata(p, st, f); err != nil {
		return fmt.Errorf("%q: %w", p.path, err)
	}
	if then.isFile() {
		if err := c.content(p, st, f); err != nil {
			return fmt.Errorf("%q: %w", p.path, err)
		}
	}
	if err := c.report(f); err != nil || !then.isDirectory() {
		return err
	}
	return c.directory(p, then)
}

// retyped tells of a name that has become something else.
func (c *comparison) retyped(p spot, st unix.Statx_t, f *finding) (err error) {
	f.What = []string{"type"}
	if _, f.Lost, err = readAttributes(p.dir, p.name, c.buffer, c.layered); err != nil && !gone(err) {
		return fmt.Errorf("%q: %w", p.path, err)
	}
	err = c.report(f)
	if err == nil && f.then.isDirectory() {
		err = c.removedIn(p.path, f.then, p.depth)
	}
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = c.directory(p, nil)
	}
	return err
}
