package squashfs

import (
	"encoding/binary"
	"io"
	"sync"
)

// rawMetadata in the size of a metadata block says that it is not compressed.
const rawMetadata = 1 << 15

// cachedBlocks bounds the metadata that is kept uncompressed: 4 MiB. An archive
// is read in the order of its directories, whose inodes lie together.
const cachedBlocks = 512

// metadata reads one table of metadata blocks: each two bytes of size and the
// compressed bytes, uncompressed 8 KiB or, at the table's end, less. It is safe
// for concurrent use.
type metadata struct {
	r     io.ReaderAt
	start uint64 // offset of the table in the archive
	end   uint64 // of the first byte behind it
	pool  *pool

	mu     sync.Mutex // protects the following
	blocks map[uint64]*metadataBlock
	order  []uint64 // of the blocks' coming
}

// metadataBlock is immutable.
type metadataBlock struct {
	data []byte
	next uint64 // start of the next block, within the table
}

func newMetadata(r io.ReaderAt, start, end uint64, p *pool) *metadata {
	return &metadata{r: r, start: start, end: end, pool: p, blocks: map[uint64]*metadataBlock{}}
}

// block is the one that starts there within the table.
func (m *metadata) block(start uint64) (*metadataBlock, error) {
	m.mu.Lock()
	b, ok := m.blocks[start]
	m.mu.Unlock()
	if ok {
		return b, nil
	}
	b, err := m.load(start)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.blocks[start]; !ok {
		m.blocks[start] = b
		m.order = append(m.order, start)
		if len(m.order) > cachedBlocks {
			delete(m.blocks, m.order[0])
			m.order = m.order[1:]
		}
	}
	return b, nil
}

// readAhead reads a table from its beginning, as much as is kept, until quit is
// closed.
func (m *metadata) readAhead(quit <-chan struct{}) {
	for at, n := uint64(0), 0; n < cachedBlocks && m.start+at < m.end; n++ {
		select {
		case <-quit:
			return
		default:
		}
		b, err := m.block(at)
		if err != nil {
			return // whoever asks for the block will be told
		}
		at = b.next
	}
}

func (m *metadata) load(start uint64) (*metadataBlock, error) {
	at := m.start + start
	if at < m.start || at+2 > m.end {
		return nil, malformed("metadata block at %d: the table is from %d to %d", at, m.start, m.end)
	}
	head := make([]byte, 2)
	if _, err := m.r.ReadAt(head, int64(at)); err != nil {
		return nil, readError(err)
	}
	size := binary.LittleEndian.Uint16(head)
	raw := size&rawMetadata != 0
	size &^= rawMetadata
	if size == 0 || int(size) > metadataSize || at+2+uint64(size) > m.end {
		return nil, malformed("metadata block at %d: %d bytes", at, size)
	}
	stored := make([]byte, size)
	if _, err := m.r.ReadAt(stored, int64(at)+2); err != nil {
		return nil, readError(err)
	}
	b := &metadataBlock{data: stored, next: start + 2 + uint64(size)}
	if !raw {
		b.data = make([]byte, metadataSize)
		n, err := m.pool.decompress(b.data, stored)
		if err != nil {
			return nil, err
		}
		b.data = b.data[:n]
	}
	return b, nil
}

// readError tells an archive that ends too early from a disk that cannot be read.
func readError(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return malformed("truncated")
	}
	return err
}

// cursor reads a table from a place on, across its blocks.
type cursor struct {
	table  *metadata
	block  *metadataBlock
	start  uint64 // of block
	offset int
}

func (m *metadata) at(block uint64, offset int) (*cursor, error) {
	b, err := m.block(block)
	if err != nil {
		return nil, err
	}
	if offset > len(b.data) {
		return nil, malformed("offset %d in a metadata block of %d bytes", offset, len(b.data))
	}
	return &cursor{table: m, block: b, start: block, offset: offset}, nil
}

// read fills p.
func (c *cursor) read(p []byte) error {
	for {
		n := copy(p, c.block.data[c.offset:])
		c.offset += n
		if p = p[n:]; len(p) == 0 {
			return nil
		}
		if len(c.block.data) == 0 {
			return malformed("empty metadata block")
		}
		next := c.block.next
		b, err := c.table.block(next)
		if err != nil {
			return err
		}
		c.block, c.start, c.offset = b, next, 0
	}
}

// value decodes a structure of fixed size.
func (c *cursor) value(v any) error {
	buffer := make([]byte, binary.Size(v))
	if err := c.read(buffer); err != nil {
		return err
	}
	_, err := binary.Decode(buffer, binary.LittleEndian, v)
	return err
}

// bytes reads n bytes. Much is read piece by piece, so that a forged number
// cannot ask for more memory than the archive has content.
func (c *cursor) bytes(n int) ([]byte, error) {
	var all []byte
	for n > 0 {
		piece := make([]byte, min(n, 1<<20))
		if err := c.read(piece); err != nil {
			return nil, err
		}
		n -= len(piece)
		if all == nil && n == 0 {
			return piece, nil
		}
		all = append(all, piece...)
	}
	return all, nil
}
