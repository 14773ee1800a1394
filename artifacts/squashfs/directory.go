package squashfs

import (
	"strings"

	"golang.org/x/sys/unix"
)

// The parts of a directory's listing on disk: a header for each run of entries
// whose inodes lie in one metadata block.
type (
	listingHead struct {
		Count  uint32 // one less than there are
		Block  uint32 // of the inodes
		Number uint32 // that the entries' own are relative to
	}
	listingEntry struct {
		Offset uint16 // of the inode in its block
		Number int16
		Type   uint16
		Size   uint16 // of the name, one less than it is
	}
)

// Bounds of a listing.
const (
	maxRun      = 256 // entries under one head
	listedExtra = 3   // what a directory's size is more than its listing; for . and ..
	maxName     = 255
)

// Entry is a name in a directory.
type Entry struct {
	Name string
	ref  ref
	kind uint16 // basic type
}

// eachEntry visits what is in a directory, in the archive's order.
func (a *Archive) eachEntry(dir *Inode, visit func(Entry) error) error {
	if dir.list.size <= listedExtra {
		return nil
	}
	left := int64(dir.list.size) - listedExtra
	c, err := a.directories.at(uint64(dir.list.block), int(dir.list.offset))
	if err != nil {
		return err
	}
	for left > 0 {
		var head listingHead
		if err := c.value(&head); err != nil {
			return err
		}
		left -= 12
		if head.Count >= maxRun {
			return malformed("a directory with %d entries under one head", head.Count)
		}
		for range head.Count + 1 {
			e, err := readEntry(c, head)
			if err != nil {
				return err
			}
			if left -= 8 + int64(len(e.Name)); left < 0 {
				return malformed("a directory of %d bytes is longer", dir.list.size)
			}
			if err := visit(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func readEntry(c *cursor, head listingHead) (Entry, error) {
	var e listingEntry
	if err := c.value(&e); err != nil {
		return Entry{}, err
	}
	name, err := c.bytes(int(e.Size) + 1)
	if err != nil {
		return Entry{}, err
	}
	entry := Entry{Name: string(name), ref: newRef(uint64(head.Block), int(e.Offset)), kind: e.Type}
	return entry, checkName(entry.Name)
}

// checkName refuses what would lead out of a directory.
func checkName(name string) error {
	if len(name) > maxName || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return malformed("a name %.300q", name)
	}
	return nil
}

// maxDepth bounds how deep directories may lie in each other.
const maxDepth = 4096

// Walk calls visit for each entry, a directory before what is in it, beginning
// with the root, whose path is ".". A directory that is found twice, in itself
// or elsewhere, is malformed. An error of visit ends the walk.
func (a *Archive) Walk(visit func(path string, i *Inode) error) error {
	root, err := a.inode(ref(a.sb.Root))
	if err == nil && !root.isDirectory() {
		err = malformed("the root is no directory")
	}
	if err != nil {
		return err
	}
	w := walker{archive: a, seen: map[ref]bool{}, visit: visit}
	return w.directory(".", root, 0)
}

type walker struct {
	archive *Archive
	seen    map[ref]bool // directories
	visit   func(string, *Inode) error
}

func (w *walker) directory(path string, dir *Inode, depth int) error {
	if w.seen[dir.ref] || depth > maxDepth {
		return malformed("%q: a directory in itself, or in two places, or too deep", path)
	}
	w.seen[dir.ref] = true
	if err := w.visit(path, dir); err != nil {
		return err
	}
	return w.archive.eachEntry(dir, func(e Entry) error { return w.entry(join(path, e.Name), e, depth) })
}

func (w *walker) entry(path string, e Entry, depth int) error {
	i, err := w.archive.inode(e.ref)
	if err != nil {
		return err
	}
	if typeOf(i.Mode) != e.kind {
		return malformed("%q: an inode of another type than its entry", path)
	}
	if i.format() == unix.S_IFDIR {
		return w.directory(path, i, depth+1)
	}
	return w.visit(path, i)
}

// join puts a name behind the path of its directory.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
