package squashfs

import (
	"container/list"
	"io"
	"sync"
)

// size is the number of bytes on disk.
func (b dataBlock) bytes() uint32 { return b.size &^ rawData }

func (b dataBlock) extent() extent { return extent{b.start, uint64(b.bytes())} }

// readBlock reads a block of data into dst, whose length is what it must hold
// at most, and returns how much there is. buffer is for the stored bytes.
func (a *Archive) readBlock(dst, buffer []byte, b dataBlock) (int, error) {
	n := b.bytes()
	if n == 0 {
		clear(dst)
		return len(dst), nil
	}
	if n > a.sb.BlockSize || b.start > a.sb.Size || uint64(n) > a.sb.Size-b.start {
		return 0, malformed("a block of %d bytes at %d", n, b.start)
	}
	raw := b.size&rawData != 0
	stored := buffer[:n]
	if raw {
		if int(n) > len(dst) {
			return 0, errTooLong
		}
		stored = dst[:n]
	}
	if _, err := a.r.ReadAt(stored, int64(b.start)); err != nil {
		return 0, readError(err)
	}
	if raw {
		return int(n), nil
	}
	return a.pool.decompress(dst, stored)
}

func (a *Archive) readFragment(index uint32) ([]byte, error) {
	b, err := a.fragment(index)
	if err == nil && b.bytes() == 0 {
		err = malformed("fragment %d is empty", index)
	}
	if err != nil {
		return nil, err
	}
	data := make([]byte, a.sb.BlockSize)
	n, err := a.readBlock(data, make([]byte, a.sb.BlockSize), b)
	return data[:n], err
}

// tailCache keeps uncompressed fragments, of which each holds the tails of many
// files that are read one after another.
type tailCache struct {
	archive *Archive

	mu      sync.Mutex // protects the following
	kept    map[uint32]*list.Element
	order   *list.List        // of *tails, the one used last in front
	lengths map[uint32]uint32 // of all fragments that have been read, uncompressed
}

// maxTails bounds the cache: with blocks of the usual size, to 4 MiB.
const maxTails = 32

// tails is one fragment. Its once is done when data and err are there.
type tails struct {
	index uint32
	once  sync.Once
	data  []byte
	err   error
}

func newTailCache(a *Archive) *tailCache {
	return &tailCache{archive: a, kept: map[uint32]*list.Element{}, order: list.New(), lengths: map[uint32]uint32{}}
}

// get returns a fragment; it must not be changed.
func (t *tailCache) get(index uint32) ([]byte, error) {
	f := t.find(index)
	f.once.Do(func() {
		if f.data, f.err = t.archive.readFragment(index); f.err == nil {
			t.note(index, len(f.data))
		}
	})
	return f.data, f.err
}

func (t *tailCache) note(index uint32, length int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lengths[index] = uint32(length)
}

func (t *tailCache) find(index uint32) *tails {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.kept[index]; ok {
		t.order.MoveToFront(e)
		return e.Value.(*tails)
	}
	f := &tails{index: index}
	t.kept[index] = t.order.PushFront(f)
	if t.order.Len() > maxTails {
		oldest := t.order.Remove(t.order.Back()).(*tails)
		delete(t.kept, oldest.index)
	}
	return f
}

// tail is the end of a file that lies in a fragment.
func (a *Archive) tail(i *Inode) ([]byte, error) {
	data, err := a.tails.get(i.file.fragment)
	if err != nil {
		return nil, err
	}
	size := i.Size % uint64(a.sb.BlockSize)
	if uint64(i.file.offset)+size > uint64(len(data)) {
		return nil, malformed("inode %d: a tail of %d bytes at %d in a fragment of %d", i.Number, size, i.file.offset, len(data))
	}
	return data[i.file.offset:][:size], nil
}

// blockLength is how much of a file its nth block holds.
func (a *Archive) blockLength(i *Inode, n int) int {
	at := uint64(n) * uint64(a.sb.BlockSize)
	return int(min(uint64(a.sb.BlockSize), i.Size-at))
}

// starts are the offsets of a file's blocks.
func (i *Inode) starts() []uint64 {
	starts, at := make([]uint64, len(i.file.blocks)), i.file.start
	for n, size := range i.file.blocks {
		starts[n] = at
		at += uint64(dataBlock{size: size}.bytes())
	}
	return starts
}

// exactly is readBlock for a block of which the length is known.
func (a *Archive) exactly(dst, buffer []byte, b dataBlock) error {
	n, err := a.readBlock(dst, buffer, b)
	if err == nil && n != len(dst) {
		err = malformed("a block of %d bytes, want %d", n, len(dst))
	}
	return err
}

// WriteTo writes a regular file's content.
func (a *Archive) WriteTo(w io.Writer, i *Inode) error {
	dst, buffer := make([]byte, a.sb.BlockSize), make([]byte, a.sb.BlockSize)
	for n, start := range i.starts() {
		block := dst[:a.blockLength(i, n)]
		if err := a.exactly(block, buffer, dataBlock{start, i.file.blocks[n]}); err != nil {
			return err
		}
		if _, err := w.Write(block); err != nil {
			return err
		}
	}
	if i.file.fragment == noFragment {
		return nil
	}
	tail, err := a.tail(i)
	if err == nil {
		_, err = w.Write(tail)
	}
	return err
}
