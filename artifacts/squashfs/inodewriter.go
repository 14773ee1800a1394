package squashfs

import (
	"encoding/binary"
	"fmt"
	"math"
)

// treeWriter writes inodes and listings, which refer to each other: a directory
// comes after everything that is in it.
type treeWriter struct {
	inodes, listings metaWriter
	ids              map[uint32]uint16
	owners           []uint32 // by index
	refs             []ref    // of inodes, by number
}

// maxOwners is how many users and groups together an archive can have: their
// number has 16 bits in the superblock.
const maxOwners = 1<<16 - 1

// number gives every inode its number: those in one directory follow each other,
// so that a listing can have most of them under one head.
func number(root *node) (count uint32, err error) {
	next := uint64(1)
	give := func(n *node) {
		if n.number == 0 {
			n.number = uint32(next)
			next++
		}
	}
	give(root)
	for open := []*node{root}; len(open) > 0; {
		dir := open[len(open)-1]
		open = open[:len(open)-1]
		for _, n := range dir.children {
			give(n.original())
		}
		for i := len(dir.children) - 1; i >= 0; i-- {
			if n := dir.children[i]; n.kind == typeDirectory {
				open = append(open, n)
			}
		}
	}
	if next > math.MaxUint32 {
		return 0, fmt.Errorf("%d files: squashfs can hold %d", next, uint32(math.MaxUint32))
	}
	return uint32(next - 1), nil
}

// directory writes everything in a directory, then the directory itself.
func (w *treeWriter) directory(dir *node, outer uint32) error {
	for _, n := range dir.children {
		if n.kind == typeDirectory {
			if err := w.directory(n, dir.number); err != nil {
				return err
			}
		}
	}
	for _, n := range dir.children {
		if n := n.original(); !n.stored {
			if err := w.inode(n); err != nil {
				return fmt.Errorf("%s: %w", n.path(), err)
			}
		}
	}
	l, err := w.list(dir)
	if err != nil {
		return err
	}
	return w.directoryInode(dir, l, outer)
}

// put writes an inode's head and the parts behind it.
func (w *treeWriter) put(n *node, kind uint16, parts ...any) error {
	block, offset := w.inodes.at()
	n.ref, n.stored = newRef(block, offset), true
	w.refs[n.number-1] = n.ref
	uid, err := w.id(n.uid)
	if err != nil {
		return err
	}
	gid, err := w.id(n.gid)
	if err != nil {
		return err
	}
	parts = append([]any{inodeHead{kind, n.mode, uid, gid, n.mtime, n.number}}, parts...)
	for _, p := range parts {
		if err := w.inodes.value(p); err != nil {
			return err
		}
	}
	return nil
}

func (w *treeWriter) id(owner uint32) (uint16, error) {
	if index, ok := w.ids[owner]; ok {
		return index, nil
	}
	if len(w.owners) == maxOwners {
		return 0, fmt.Errorf("more than %d different users and groups: squashfs cannot hold them", maxOwners)
	}
	index := uint16(len(w.owners))
	w.ids[owner] = index
	w.owners = append(w.owners, owner)
	return index, nil
}

// inode writes what is no directory.
func (w *treeWriter) inode(n *node) error {
	var parts []any
	switch n.kind {
	case typeFile:
		return w.fileInode(n)
	case typeSymlink:
		parts = []any{symlinkInode{n.links, uint32(len(n.target))}, []byte(n.target)}
	case typeBlock, typeChar:
		parts = []any{deviceInode{n.links, n.device}}
	default:
		parts = []any{n.links}
	}
	if n.xattrs == noXattr {
		return w.put(n, n.kind, parts...)
	}
	return w.put(n, n.kind+typeExtended, append(parts, n.xattrs)...)
}

func (w *treeWriter) fileInode(n *node) error {
	c, size := n.content, uint64(n.stamp.size)
	if n.xattrs == noXattr && n.links == 1 && c.sparse == 0 && c.start <= math.MaxUint32 && size <= math.MaxUint32 {
		return w.put(n, typeFile, fileInode{uint32(c.start), c.fragment, c.offset, uint32(size)}, c.blocks)
	}
	return w.put(n, typeFile+typeExtended,
		extendedFileInode{c.start, size, c.sparse, n.links, c.fragment, c.offset, n.xattrs}, c.blocks)
}

// listed is a listing that has been written.
type listed struct {
	block   uint64
	offset  int
	size    int
	links   uint32
	indexes int
	index   []byte // encoded
}

// list writes a directory's listing. Where it goes on in another metadata block
// a new head begins, which the index names: so a reader need not go through
// all blocks to find a name (linux/fs/squashfs/dir.c).
func (w *treeWriter) list(dir *node) (l listed, err error) {
	l.block, l.offset = w.listings.at()
	l.links = 2
	current := l.block
	for rest := dir.children; len(rest) > 0; {
		block, _ := w.listings.at()
		if block != current {
			current = block
			l.addIndex(block, rest[0].name)
		}
		n, size, err := w.run(rest)
		if err != nil {
			return l, err
		}
		l.size += size
		rest = rest[n:]
	}
	for _, n := range dir.children {
		if n.kind == typeDirectory {
			l.links++
		}
	}
	return l, nil
}

func (l *listed) addIndex(block uint64, name string) {
	l.indexes++
	for _, value := range []uint32{uint32(l.size), uint32(block), uint32(len(name) - 1)} {
		l.index = binary.LittleEndian.AppendUint32(l.index, value)
	}
	l.index = append(l.index, name...)
}

// run writes one head and the entries that can stand under it.
func (w *treeWriter) run(entries []*node) (count, size int, err error) {
	_, offset := w.listings.at()
	first := entries[0].original()
	size = 12
	for count < min(len(entries), maxRun) {
		n := entries[count].original()
		next := size + 8 + len(entries[count].name)
		if n.ref.block() != first.ref.block() || int64(int16(n.number-first.number)) != int64(n.number)-int64(first.number) ||
			count > 0 && offset+size >= metadataSize { // the entry would begin in the next block
			break
		}
		count, size = count+1, next
	}
	if err := w.listings.value(listingHead{uint32(count - 1), uint32(first.ref.block()), first.number}); err != nil {
		return 0, 0, err
	}
	for _, e := range entries[:count] {
		n := e.original()
		head := listingEntry{uint16(n.ref.offset()), int16(n.number - first.number), n.kind, uint16(len(e.name) - 1)}
		if err := w.listings.value(head); err != nil {
			return 0, 0, err
		}
		if err := w.listings.write([]byte(e.name)); err != nil {
			return 0, 0, err
		}
	}
	return count, size, nil
}

func (w *treeWriter) directoryInode(dir *node, l listed, outer uint32) error {
	size := l.size + listedExtra
	if l.block > math.MaxUint32 || int64(size) > math.MaxUint32 || l.indexes > math.MaxUint16 {
		return fmt.Errorf("%s: too many entries for squashfs", dir.path())
	}
	if dir.xattrs == noXattr && l.indexes == 0 && size <= math.MaxUint16 {
		return w.put(dir, typeDirectory, directoryInode{uint32(l.block), l.links, uint16(size), uint16(l.offset), outer})
	}
	return w.put(dir, typeDirectory+typeExtended,
		extendedDirectoryInode{l.links, uint32(size), uint32(l.block), outer, uint16(l.indexes), uint16(l.offset), dir.xattrs}, l.index)
}
