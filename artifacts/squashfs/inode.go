package squashfs

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// Types of inodes. The extended ones are the basic ones plus typeExtended.
const (
	typeDirectory = iota + 1
	typeFile
	typeSymlink
	typeBlock
	typeChar
	typeFIFO
	typeSocket
	typeExtended = 7
)

// formats are the types' bits in st_mode (inode(7)).
var formats = [...]uint32{
	typeDirectory: unix.S_IFDIR, typeFile: unix.S_IFREG, typeSymlink: unix.S_IFLNK, typeBlock: unix.S_IFBLK,
	typeChar: unix.S_IFCHR, typeFIFO: unix.S_IFIFO, typeSocket: unix.S_IFSOCK,
}

// typeOf is the basic type of a file by its st_mode, 0 for none that there is.
func typeOf(mode uint32) uint16 {
	for kind, format := range formats {
		if kind > 0 && format == mode&unix.S_IFMT {
			return uint16(kind)
		}
	}
	return 0
}

// noFragment and noXattr stand for "none" in an inode.
const (
	noFragment = ^uint32(0)
	noXattr    = ^uint32(0)
)

// Inode is a file, directory or anything else that has an entry.
type Inode struct {
	Mode     uint32 // as st_mode, with the type
	UID, GID uint32
	Mtime    uint32 // seconds since 1970
	Number   uint32
	Links    uint32
	Size     uint64 // of a regular file, bytes
	Device   uint32 // of a device, as the kernel's new_encode_dev
	Target   string // of a symbolic link

	ref    ref
	xattrs uint32 // index, noXattr for none
	file   layout // of a regular file
	list   listing
}

// layout is where a file's content lies.
type layout struct {
	start    uint64   // of the first block
	blocks   []uint32 // their sizes on disk, with rawData; 0 for zeros
	fragment uint32   // index, noFragment for none
	offset   uint32   // of the tail in the fragment
	sparse   uint64   // bytes of zeros that are not stored
}

// listing is where a directory's entries lie.
type listing struct {
	block  uint32
	offset uint16
	size   uint32 // bytes, 3 more than there are
	parent uint32 // inode number
}

func (i *Inode) format() uint32    { return i.Mode & unix.S_IFMT }
func (i *Inode) isDirectory() bool { return i.format() == unix.S_IFDIR }
func (i *Inode) isFile() bool      { return i.format() == unix.S_IFREG }

// The parts of inodes on disk.
type (
	inodeHead struct {
		Type, Mode, UID, GID uint16
		Mtime, Number        uint32
	}
	directoryInode struct {
		Block, Links uint32
		Size, Offset uint16
		Parent       uint32
	}
	extendedDirectoryInode struct {
		Links, Size, Block, Parent uint32
		Indexes, Offset            uint16
		Xattrs                     uint32
	}
	fileInode         struct{ Start, Fragment, Offset, Size uint32 }
	extendedFileInode struct {
		Start, Size, Sparse             uint64
		Links, Fragment, Offset, Xattrs uint32
	}
	symlinkInode struct{ Links, Size uint32 }
	deviceInode  struct{ Links, Device uint32 }
)

// inode reads the inode at a place of the table.
func (a *Archive) inode(at ref) (*Inode, error) {
	c, err := a.inodes.at(at.block(), at.offset())
	if err != nil {
		return nil, err
	}
	var head inodeHead
	if err := c.value(&head); err != nil {
		return nil, err
	}
	kind, extended := head.Type, head.Type > typeExtended
	if extended {
		kind -= typeExtended
	}
	if kind == 0 || kind > typeSocket {
		return nil, malformed("inode %d: type %d", head.Number, head.Type)
	}
	i := &Inode{Mode: formats[kind] | uint32(head.Mode&0o7777), Mtime: head.Mtime, Number: head.Number, ref: at, xattrs: noXattr}
	if i.UID, err = a.id(head.UID); err != nil {
		return nil, err
	}
	if i.GID, err = a.id(head.GID); err != nil {
		return nil, err
	}
	switch kind {
	case typeDirectory:
		return i, i.readDirectory(c, extended)
	case typeFile:
		return i, i.readFile(c, extended, &a.sb)
	case typeSymlink:
		return i, i.readSymlink(c, extended)
	case typeBlock, typeChar:
		return i, i.readOther(c, extended, &i.Device)
	}
	return i, i.readOther(c, extended, nil)
}

func (i *Inode) readDirectory(c *cursor, extended bool) error {
	if !extended {
		var d directoryInode
		err := c.value(&d)
		i.Links, i.list = d.Links, listing{d.Block, d.Offset, uint32(d.Size), d.Parent}
		return err
	}
	var d extendedDirectoryInode
	err := c.value(&d)
	i.Links, i.xattrs, i.list = d.Links, d.Xattrs, listing{d.Block, d.Offset, d.Size, d.Parent}
	return err
}

func (i *Inode) readFile(c *cursor, extended bool, sb *superblock) error {
	if !extended {
		var f fileInode
		if err := c.value(&f); err != nil {
			return err
		}
		i.Links, i.Size = 1, uint64(f.Size)
		i.file = layout{start: uint64(f.Start), fragment: f.Fragment, offset: f.Offset}
	} else {
		var f extendedFileInode
		if err := c.value(&f); err != nil {
			return err
		}
		i.Links, i.Size, i.xattrs = f.Links, f.Size, f.Xattrs
		i.file = layout{start: f.Start, fragment: f.Fragment, offset: f.Offset, sparse: f.Sparse}
	}
	count := i.Size / uint64(sb.BlockSize)
	if i.file.fragment == noFragment && i.Size%uint64(sb.BlockSize) != 0 {
		count++
	}
	if count > maxBlocks {
		return malformed("inode %d: a file of %d bytes", i.Number, i.Size)
	}
	return i.readBlocks(c, int(count))
}

// maxBlocks bounds the blocks of a file: 2 TiB with those of the usual size, 64
// GiB with the smallest. Their sizes are in memory.
const maxBlocks = 1 << 24

func (i *Inode) readBlocks(c *cursor, count int) error {
	for count > 0 {
		list, err := c.bytes(4 * min(count, 1<<16))
		if err != nil {
			return err
		}
		i.file.blocks = slices.Grow(i.file.blocks, len(list)/4)
		for ; len(list) > 0; list = list[4:] {
			i.file.blocks = append(i.file.blocks, binary.LittleEndian.Uint32(list))
			count--
		}
	}
	return nil
}

func (i *Inode) readSymlink(c *cursor, extended bool) error {
	var s symlinkInode
	if err := c.value(&s); err != nil {
		return err
	}
	if s.Size == 0 || s.Size >= unix.PathMax {
		return malformed("inode %d: a link of %d bytes", i.Number, s.Size)
	}
	target, err := c.bytes(int(s.Size))
	i.Links, i.Target = s.Links, string(target)
	if err == nil && extended {
		err = c.value(&i.xattrs)
	}
	return err
}

// readOther reads what has links and, perhaps, a device number.
func (i *Inode) readOther(c *cursor, extended bool, device *uint32) error {
	err := c.value(&i.Links)
	if err == nil && device != nil {
		err = c.value(device)
	}
	if err == nil && extended {
		err = c.value(&i.xattrs)
	}
	return err
}
