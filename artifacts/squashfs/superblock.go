package squashfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// ErrFormat is returned for what is no squashfs archive, or a damaged one.
var ErrFormat = errors.New("malformed squashfs archive")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// magic is how a superblock begins (linux/magic.h, SQUASHFS_MAGIC, in little endian).
const magic = "hsqs"

// Is tells whether a file that begins with header is a squashfs archive. Four
// bytes are enough.
func Is(header []byte) bool { return len(header) >= len(magic) && string(header[:len(magic)]) == magic }

// Sizes of the format, in bytes (linux/fs/squashfs/squashfs_fs.h).
const (
	superblockSize   = 96
	metadataSize     = 8 << 10 // of an uncompressed metadata block
	minBlockSize     = 4 << 10
	maxBlockSize     = 1 << 20
	defaultBlockSize = 128 << 10
	paddedTo         = 4 << 10 // a loop device has no smaller pieces
)

// noTable is the offset of a table that is not there.
const noTable = ^uint64(0)

// The superblock's flags.
const (
	flagRawInodes    = 1 << 0
	flagRawData      = 1 << 1
	flagRawFragments = 1 << 3
	flagNoFragments  = 1 << 4
	flagDuplicates   = 1 << 6 // duplicate files have been looked for
	flagExportable   = 1 << 7
	flagRawXattrs    = 1 << 8
	flagNoXattrs     = 1 << 9
	flagOptions      = 1 << 10 // the compressor's options follow the superblock
	flagRawIDs       = 1 << 11
)

// flagRaw are the flags of an archive in which nothing is compressed.
const flagRaw = flagRawInodes | flagRawData | flagRawFragments | flagRawXattrs | flagRawIDs

// superblock is the head of an archive, in the order of its bytes.
type superblock struct {
	Magic          [4]byte
	Inodes         uint32
	MkfsTime       uint32 // seconds since 1970
	BlockSize      uint32 // bytes
	Fragments      uint32
	Compression    uint16
	BlockLog       uint16
	Flags          uint16
	IDs            uint16
	Major, Minor   uint16
	Root           uint64 // reference of the root directory's inode
	Size           uint64 // bytes used, without the padding
	IDTable        uint64 // offsets of the tables, noTable for none
	XattrTable     uint64
	InodeTable     uint64
	DirectoryTable uint64
	FragmentTable  uint64
	ExportTable    uint64
}

func readSuperblock(r io.ReaderAt) (sb superblock, err error) {
	head := make([]byte, superblockSize)
	if n, err := r.ReadAt(head, 0); n < len(head) {
		if err == io.EOF {
			return sb, malformed("truncated: %d bytes", n)
		}
		return sb, err
	}
	if _, err := binary.Decode(head, binary.LittleEndian, &sb); err != nil {
		return sb, err
	}
	return sb, sb.check()
}

func (sb *superblock) check() error {
	switch {
	case !Is(sb.Magic[:]):
		return malformed("it does not begin with %q", magic)
	case sb.Major != 4 || sb.Minor != 0:
		return malformed("version %d.%d: only 4.0 is known", sb.Major, sb.Minor)
	case sb.BlockSize < minBlockSize || sb.BlockSize > maxBlockSize || bits.OnesCount32(sb.BlockSize) != 1 ||
		bits.TrailingZeros32(sb.BlockSize) != int(sb.BlockLog):
		return malformed("block size %d (log %d)", sb.BlockSize, sb.BlockLog)
	case sb.InodeTable < superblockSize || sb.InodeTable >= sb.DirectoryTable || sb.DirectoryTable >= sb.Size || sb.Size > 1<<62:
		return malformed("inode table at %d, directory table at %d, %d bytes in all", sb.InodeTable, sb.DirectoryTable, sb.Size)
	case sb.Inodes == 0 || sb.IDs == 0:
		return malformed("%d inodes, %d owners", sb.Inodes, sb.IDs)
	}
	return nil
}

func (sb *superblock) encode() []byte {
	head, _ := binary.Append(nil, binary.LittleEndian, sb) // of fixed size
	return head
}

// A ref is where an inode lies: the start of its metadata block within the inode
// table, shifted left by 16, and the offset in the block when uncompressed.
type ref uint64

func newRef(block uint64, offset int) ref { return ref(block<<16 | uint64(offset)) }
func (r ref) block() uint64               { return uint64(r) >> 16 }
func (r ref) offset() int                 { return int(r & 0xffff) }
