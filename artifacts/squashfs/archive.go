package squashfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Archive is a squashfs archive that is read. What it says is not trusted:
// reading it gives ErrFormat for what cannot be. It is safe for concurrent use.
type Archive struct {
	r           io.ReaderAt
	sb          superblock
	compression compression
	pool        *pool
	inodes      *metadata
	directories *metadata
	ids         []uint32
	fragments   *table // nil if there are none
	xattrs      xattrTable
	tails       *tailCache
	level       int // of the compressor, 0 if unknown
}

// dataBlock is where a block of data lies.
type dataBlock struct {
	start uint64
	size  uint32 // on disk, with rawData; 0 for zeros
}

// rawData in the size of a data block says that it is not compressed.
const rawData = 1 << 24

// Open reads an archive's superblock and tables. Directories and files are read
// when they are asked for.
func Open(r io.ReaderAt) (*Archive, error) {
	a, err := open(r)
	if err != nil {
		return nil, fmt.Errorf("read squashfs: %w", err)
	}
	return a, nil
}

func open(r io.ReaderAt) (*Archive, error) {
	sb, err := readSuperblock(r)
	if err != nil {
		return nil, err
	}
	c, err := compressionByID(sb.Compression)
	if err != nil {
		return nil, err
	}
	if _, err := r.ReadAt(make([]byte, 1), int64(sb.Size-1)); err != nil {
		return nil, readError(err)
	}
	a := &Archive{r: r, sb: sb, compression: c, pool: newPool(c)}
	a.inodes = newMetadata(r, sb.InodeTable, sb.DirectoryTable, a.pool)
	a.directories = newMetadata(r, sb.DirectoryTable, a.directoriesEnd(), a.pool)
	a.tails = newTailCache(a)
	if a.level, err = a.readLevel(); err != nil {
		return nil, err
	}
	if err := a.readTables(); err != nil {
		return nil, err
	}
	return a, a.readXattrs()
}

// directoriesEnd is the start of whatever table follows that of the directories.
func (a *Archive) directoriesEnd() uint64 {
	end := a.sb.Size
	for _, table := range []uint64{a.sb.FragmentTable, a.sb.ExportTable, a.sb.IDTable, a.sb.XattrTable} {
		if table > a.sb.DirectoryTable && table < end {
			end = table
		}
	}
	return end
}

// readLevel finds the level that the archive was compressed with. The tools
// store options only if they are not the default ones.
func (a *Archive) readLevel() (int, error) {
	if a.compression.highest == 0 {
		return 0, nil
	}
	if a.sb.Flags&flagOptions == 0 {
		return a.compression.unsaid, nil
	}
	b, err := newMetadata(a.r, superblockSize, a.sb.InodeTable, a.pool).load(0)
	if err != nil {
		return 0, err
	}
	if len(b.data) < 4 {
		return 0, malformed("%d bytes of compressor options", len(b.data))
	}
	return int(int32(binary.LittleEndian.Uint32(b.data))), nil
}

func (a *Archive) readTables() (err error) {
	ids, err := a.table("owner", a.sb.IDTable, uint64(a.sb.IDs), 4)
	for index := uint64(0); err == nil && index < ids.count; index++ {
		var id []byte
		if id, err = ids.entry(index); err == nil {
			a.ids = append(a.ids, binary.LittleEndian.Uint32(id))
		}
	}
	if err != nil {
		return err
	}
	if a.sb.Fragments > 0 {
		a.fragments, err = a.table("fragment", a.sb.FragmentTable, uint64(a.sb.Fragments), fragmentEntry)
	}
	return err
}

// fragmentEntry is the size of a dataBlock in the fragment table.
const fragmentEntry = 16

// fragment is where a fragment lies.
func (a *Archive) fragment(index uint32) (dataBlock, error) {
	entry, err := a.fragments.entry(uint64(index))
	if err != nil {
		return dataBlock{}, err
	}
	return dataBlock{binary.LittleEndian.Uint64(entry), binary.LittleEndian.Uint32(entry[8:])}, nil
}

// id is an owner by its index.
func (a *Archive) id(index uint16) (uint32, error) {
	if int(index) >= len(a.ids) {
		return 0, malformed("owner %d of %d", index, len(a.ids))
	}
	return a.ids[index], nil
}

// Info is what an archive says about itself.
type Info struct {
	Compression string    `json:"compression"`
	Level       int       `json:"level,omitempty"` // 0: not known, or no levels
	BlockSize   int       `json:"block_size"`      // bytes
	Inodes      int       `json:"inodes"`
	Fragments   int       `json:"fragments"`
	IDs         int       `json:"ids"`        // distinct users and groups
	Xattrs      int       `json:"xattr_sets"` // distinct sets of extended attributes
	Exportable  bool      `json:"exportable"` // by NFS
	Size        int64     `json:"size"`       // bytes, without padding
	Created     time.Time `json:"created"`
}

// Info describes the archive.
func (a *Archive) Info() Info {
	name, level := a.compression.name, a.level
	if a.sb.Flags&flagRaw == flagRaw {
		name, level = none, 0
	}
	return Info{
		Compression: name, Level: level, BlockSize: int(a.sb.BlockSize), Inodes: int(a.sb.Inodes),
		Fragments: int(a.sb.Fragments), IDs: int(a.sb.IDs), Xattrs: a.xattrs.count(),
		Exportable: a.sb.ExportTable != noTable, Size: int64(a.sb.Size), Created: time.Unix(int64(a.sb.MkfsTime), 0).UTC(),
	}
}
