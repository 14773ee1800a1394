package squashfs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"buildenv/artifacts"
)

// Compare tells what a directory root does not have as the archive opts.From has
// it: each such path once, in the order of names, a directory before what is in
// it. Contents are compared, unless opts.Record says that the file looks as it
// did. A time of modification counts if it is not a directory's: those change with
// what is in them. In which files names share an inode is not compared.
//
// The root may be hostile, and somebody may be at work in it: then what is found
// is true of some moment of each path. Memory does not grow with the root, but
// with its depth, with the names in one directory, and with the archive's
// directories.
func Compare(ctx context.Context, root string, opts artifacts.PackOptions, log *slog.Logger, visit func(artifacts.Change) error) error {
	if err := compare(ctx, root, opts, log, visit); err != nil {
		return fmt.Errorf("compare %s with its source: %w", root, err)
	}
	return nil
}

func compare(ctx context.Context, root string, opts artifacts.PackOptions, log *slog.Logger, visit func(artifacts.Change) error) error {
	old, err := openReuse(opts.From, log)
	if err != nil {
		return err
	}
	defer old.close()
	s, err := newSettings(artifacts.PackOptions{Epoch: opts.Epoch, Processors: opts.Processors})
	if err != nil {
		return err
	}
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	above, err := openUpper(opts.Upper)
	if err != nil {
		return err
	}
	defer above.close()
	if err := old.checkOverlay(opts); err != nil {
		return err
	}
	old.believe(fd, opts)
	c := &comparison{
		from: old.from, identities: old.identities, layered: opts.Upper != "", overlay: old.overlay, upper: above, clamp: s.clamp,
		found: make(chan *finding, underWay), work: make(chan *finding, underWay),
		linked: map[linkedFile]*finding{}, seen: map[ref]bool{}, buffer: make([]byte, maxXattrValue),
	}
	if err := c.run(ctx, fd, cmp.Or(opts.Processors, runtime.GOMAXPROCS(0)), visit); err != nil {
		return err
	}
	return old.untouched()
}

// comparison compares a root with an archive. One goroutine walks through both,
// some compare contents, and one tells what has been found, in order.
type comparison struct {
	ctx        context.Context
	from       *Archive
	identities *identities // nil: nothing is believed
	layered    bool        // the root is an overlay
	overlay    bool        // and what is not in its upper layer is believed
	upper      upper       // of the directory that is compared
	clamp      int64       // latest time that will be packed, in seconds
	mount      uint64      // the root's

	found  chan *finding // in order
	work   chan *finding // whose contents are to be compared
	linked map[linkedFile]*finding
	seen   map[ref]bool // directories of the archive
	buffer []byte
}

// underWay bounds the files that are open.
const underWay = 64

// linkedFile is a file with several names, and what it is compared with.
type linkedFile struct {
	fileID
	then ref
}

// maxLinked bounds what is remembered of files with several names; those beyond
// are compared once for each name.
const maxLinked = 1 << 18

// finding is what may become a change: that is known when done is closed.
type finding struct {
	artifacts.Change
	then    *Inode
	file    openFile // to be compared, if done is there
	other   *finding // that compares the same file under another name
	done    chan struct{}
	differs bool
	err     error
}

func (c *comparison) run(ctx context.Context, root, processors int, visit func(artifacts.Change) error) error {
	group, ctx := errgroup.WithContext(ctx)
	c.ctx = ctx
	for range processors {
		group.Go(func() error {
			c.contents()
			return nil
		})
	}
	group.Go(func() error { return c.tell(visit) })
	group.Go(func() error {
		defer close(c.found)
		defer close(c.work)
		return c.tree(root)
	})
	return group.Wait()
}

// tell waits for the findings and tells those that are changes.
func (c *comparison) tell(visit func(artifacts.Change) error) error {
	for f := range c.found {
		if err := f.wait(); err != nil {
			return fmt.Errorf("%q: %w", f.Path, err)
		}
		if f.Kind == artifacts.Changed && len(f.What) == 0 && len(f.Lost) == 0 {
			continue
		}
		if err := visit(f.Change); err != nil {
			return err
		}
	}
	return c.ctx.Err()
}

func (f *finding) wait() error {
	by := f
	if f.other != nil {
		by = f.other
	}
	if by.done != nil {
		<-by.done
	}
	if by.differs {
		f.What = append([]string{"content"}, f.What...)
	}
	return by.err
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

func newFinding(p spot, st unix.Statx_t, kind artifacts.ChangeKind) *finding {
	c := artifacts.Change{Kind: kind, Path: p.path, Type: typeName(uint32(st.Mode))}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		c.Size = int64(st.Size)
	}
	return &finding{Change: c}
}

// typeNames are what a report calls the types.
var typeNames = [...]string{
	typeDirectory: "directory", typeFile: "file", typeSymlink: "symlink", typeBlock: "block",
	typeChar: "char", typeFIFO: "fifo", typeSocket: "socket",
}

func typeName(mode uint32) string { return typeNames[typeOf(mode)] }

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

// report hands a finding on. It is handed to be compared first: whoever waits
// for it to be compared then knows that it will be.
func (c *comparison) report(f *finding) error {
	if f.done != nil {
		select {
		case c.work <- f:
		case <-c.ctx.Done():
			f.file.close()
			return c.ctx.Err()
		}
	}
	select {
	case c.found <- f:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}
