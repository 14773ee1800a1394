package squashfs

import (
	"encoding/binary"
	"fmt"
)

// metaWriter makes one table of metadata blocks, in memory.
type metaWriter struct {
	c      compressor // nil: nothing is compressed
	buffer []byte     // not yet in a block
	out    []byte
}

// at is where the next byte will lie.
func (m *metaWriter) at() (block uint64, offset int) { return uint64(len(m.out)), len(m.buffer) }

func (m *metaWriter) write(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), metadataSize-len(m.buffer))
		m.buffer, p = append(m.buffer, p[:n]...), p[n:]
		if len(m.buffer) == metadataSize {
			if err := m.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// value writes a structure of fixed size.
func (m *metaWriter) value(v any) error {
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		return err
	}
	return m.write(b)
}

// flush ends a block; the table's last one may be short.
func (m *metaWriter) flush() error {
	if len(m.buffer) == 0 {
		return nil
	}
	head := len(m.out)
	m.out = append(m.out, 0, 0)
	size := 0
	if m.c != nil {
		var err error
		if m.out, err = m.c.compress(m.out, m.buffer); err != nil {
			return fmt.Errorf("compress metadata: %w", err)
		}
		size = len(m.out) - head - 2
	}
	if m.c == nil || size >= len(m.buffer) {
		m.out = append(m.out[:head+2], m.buffer...)
		size = len(m.buffer) | rawMetadata
	}
	binary.LittleEndian.PutUint16(m.out[head:], uint16(size))
	m.buffer = m.buffer[:0]
	return nil
}

// lookupTable encodes a table that is found by a list of its blocks, for a
// place in the archive. It returns all of it and where its list begins.
func lookupTable(c compressor, data []byte, at uint64, head []byte) (table []byte, list uint64, err error) {
	m := &metaWriter{c: c}
	var starts []byte
	for len(data) > 0 {
		n := min(len(data), metadataSize)
		starts = binary.LittleEndian.AppendUint64(starts, at+uint64(len(m.out)))
		if err := m.write(data[:n]); err != nil {
			return nil, 0, err
		}
		if err := m.flush(); err != nil {
			return nil, 0, err
		}
		data = data[n:]
	}
	return append(append(m.out, head...), starts...), at + uint64(len(m.out)), nil
}
