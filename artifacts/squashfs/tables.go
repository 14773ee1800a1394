package squashfs

import (
	"encoding/binary"
	"math/bits"
)

// options are the compressor's, as the block of metadata that they are stored as.
// They only tell how blocks were made, so they are left out where a block lies.
func (w *writer) options() ([]byte, error) {
	if w.raw || w.compression.options == nil || w.stays != nil && w.stays.bare {
		return nil, nil
	}
	options := w.compression.options(w.level)
	if options == nil {
		return nil, nil
	}
	m := metaWriter{}
	err := m.write(options)
	if err == nil {
		err = m.flush()
	}
	return m.out, err
}

// tables writes everything behind the data.
func (w *writer) tables(root *node, data *dataWriter) error {
	c, err := w.newCompressor()
	if err != nil {
		return err
	}
	count, err := number(root)
	if err != nil {
		return err
	}
	t := &treeWriter{inodes: metaWriter{c: c}, listings: metaWriter{c: c}, ids: map[uint32]uint16{}, refs: make([]ref, count)}
	if err := t.directory(root, count+1); err != nil {
		return err
	}
	if err := t.inodes.flush(); err != nil {
		return err
	}
	if err := t.listings.flush(); err != nil {
		return err
	}
	w.sb = superblock{
		Inodes: count, MkfsTime: *w.created, BlockSize: uint32(w.blockSize), BlockLog: uint16(bits.TrailingZeros(uint(w.blockSize))),
		Fragments: uint32(len(data.fragments)), Compression: w.compression.id, IDs: uint16(len(t.owners)), Major: 4,
		Flags: flagDuplicates | flagExportable, Root: uint64(root.ref), Size: data.position, XattrTable: noTable,
	}
	copy(w.sb.Magic[:], magic)
	if w.raw {
		w.sb.Flags |= flagRaw
	}
	if w.sb.InodeTable, err = w.append(t.inodes.out); err != nil {
		return err
	}
	if w.sb.DirectoryTable, err = w.append(t.listings.out); err != nil {
		return err
	}
	if w.sb.FragmentTable, err = w.appendTable(c, encodeFragments(data.fragments), nil); err != nil {
		return err
	}
	if w.sb.ExportTable, err = w.appendTable(c, encode(t.refs), nil); err != nil {
		return err
	}
	if w.sb.IDTable, err = w.appendTable(c, encode(t.owners), nil); err != nil {
		return err
	}
	return w.xattrTables(c)
}

func encode(list any) []byte {
	b, _ := binary.Append(nil, binary.LittleEndian, list) // of fixed size
	return b
}

func encodeFragments(list []dataBlock) []byte {
	var b []byte
	for _, f := range list {
		b = binary.LittleEndian.AppendUint64(b, f.start)
		b = binary.LittleEndian.AppendUint32(b, f.size)
		b = binary.LittleEndian.AppendUint32(b, 0)
	}
	return b
}

// append writes a table at the end and returns where it begins.
func (w *writer) append(table []byte) (uint64, error) {
	start := w.sb.Size
	_, err := w.out.WriteAt(table, int64(start))
	w.sb.Size += uint64(len(table))
	return start, err
}

// appendTable writes a table that is found by its list, with head before that.
func (w *writer) appendTable(c compressor, data, head []byte) (uint64, error) {
	table, list, err := lookupTable(c, data, w.sb.Size, head)
	if err != nil {
		return 0, err
	}
	_, err = w.append(table)
	return list, err
}

// xattrTables writes the attributes, then the table of their sets.
func (w *writer) xattrTables(c compressor) error {
	if len(w.xattrs.encoded) == 0 {
		return nil
	}
	values := metaWriter{c: c}
	var sets []byte
	for i, encoded := range w.xattrs.encoded {
		block, offset := values.at()
		sets = append(sets, encode(xattrSet{newRef(block, offset), w.xattrs.counts[i], uint32(len(encoded))})...)
		if err := values.write([]byte(encoded)); err != nil {
			return err
		}
	}
	if err := values.flush(); err != nil {
		return err
	}
	start, err := w.append(values.out)
	if err != nil {
		return err
	}
	head := binary.LittleEndian.AppendUint64(nil, start)
	head = binary.LittleEndian.AppendUint64(head, uint64(len(w.xattrs.encoded))) // and an unused word
	w.sb.XattrTable, err = w.appendTable(c, sets, head)
	return err
}

// finish pads the archive and writes its head, without which it is none.
func (w *writer) finish() error {
	if len(w.head) > 0 {
		w.sb.Flags |= flagOptions
	}
	padded := (w.sb.Size + paddedTo - 1) / paddedTo * paddedTo
	if _, err := w.out.WriteAt(zeros[:padded-w.sb.Size], int64(w.sb.Size)); err != nil {
		return err // what lay there may have been taken back
	}
	if err := w.out.Truncate(int64(padded)); err != nil {
		return err
	}
	_, err := w.out.WriteAt(append(w.sb.encode(), w.head...), 0)
	return err
}
