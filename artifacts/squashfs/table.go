package squashfs

import "encoding/binary"

// table is entries of one size that are found by a list of their metadata
// blocks. Entries are read when they are asked for: how many there are is
// something that anybody can write into a superblock.
type table struct {
	what   string // for messages
	a      *Archive
	listed uint64 // where the list is
	count  uint64 // of entries
	size   int    // of each
	blocks *metadata
}

// table is the one whose list lies at listed; its blocks lie before that.
func (a *Archive) table(what string, listed, count uint64, size int) (*table, error) {
	t := &table{what: what, a: a, listed: listed, count: count, size: size}
	if listed > a.sb.Size || t.listSize() > a.sb.Size-listed {
		return nil, malformed("%s table: %d entries at %d", what, count, listed)
	}
	t.blocks = newMetadata(a.r, 0, listed, a.pool)
	return t, nil
}

// listSize is the size of the list, in bytes.
func (t *table) listSize() uint64 {
	return (t.count*uint64(t.size) + metadataSize - 1) / metadataSize * 8
}

// entry is one of them, encoded. It must not be changed.
func (t *table) entry(index uint64) ([]byte, error) {
	if t == nil {
		return nil, malformed("an entry of a table that is not there")
	}
	if index >= t.count {
		return nil, malformed("%s %d of %d", t.what, index, t.count)
	}
	at := index * uint64(t.size)
	start := make([]byte, 8)
	if _, err := t.a.r.ReadAt(start, int64(t.listed+at/metadataSize*8)); err != nil {
		return nil, readError(err)
	}
	b, err := t.blocks.block(binary.LittleEndian.Uint64(start))
	if err != nil {
		return nil, err
	}
	offset := int(at % metadataSize)
	if offset+t.size > len(b.data) {
		return nil, malformed("%s table: a block of %d bytes", t.what, len(b.data))
	}
	return b.data[offset:][:t.size], nil
}
