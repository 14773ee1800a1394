package squashfs

import (
	"bytes"
	"errors"
	"slices"

	"buildenv/artifacts"
)

// stays is what the new archive has at the offset where the old one has it. What
// is new follows behind the old one's data, in place of its tables. Nothing is
// ever written to the places between, so that they are zeros: the new archive is
// another file, in which only what is kept arrives.
//
// A file's blocks follow each other, so they stay together or are all moved.
type stays struct {
	from, to uint64   // the part of the old archive in which something can stay
	bare     bool     // it begins where the compressor's options would be
	kept     []extent // may overlap
}

// deadShare is how many times the empty part must fit into the archive's data.
const deadShare = 5

// stay makes ready for what stays, if there is another archive.
func (w *writer) stay() error {
	if w.reuse == nil {
		w.log.Info("there is no other archive at whose place anything could stay")
		return nil
	}
	sb := w.reuse.from.sb
	w.stays = &stays{bare: sb.Flags&flagOptions == 0}
	options, err := w.options()
	w.stays.from = superblockSize + uint64(len(options))
	w.stays.to = max(w.stays.from, sb.InodeTable)
	return err
}

// holds tells whether a part of the old archive can stay where it is.
func (s *stays) holds(e extent) bool {
	return s != nil && e.start >= s.from && e.start <= s.to && e.length <= s.to-e.start
}

// keep has a part stay, and returns how many bytes that needs elsewhere.
func (s *stays) keep(e extent) uint64 {
	if !s.holds(e) {
		return e.length
	}
	s.kept = append(s.kept, e)
	return 0
}

// mayStay is a large file's counterpart if the file may turn out to be the same,
// block by block.
func (s *stays) mayStay(n *node) *Inode {
	if s == nil || n.base == nil {
		return nil
	}
	i := n.base.Inode
	if int64(i.Size) != n.stamp.size || i.file.fragment != noFragment || !s.holds(i.file.extent()) {
		return nil
	}
	return i
}

// isSame tells whether a block is the one that the old archive has.
func (j *job) isSame() bool { return j.same || j.stored == nil && j.base.bytes() == 0 }

// leave moves the file that is being written: a block has turned out to be
// another one. Those before it are copied here, for a file that changes while it
// is read takes its place back, and somebody else's block follows there. The
// goroutine that copies may be at work, so this goes another way.
func (w *dataWriter) leave() error {
	before := layout{start: w.staying.file.start, blocks: w.blocks}
	w.staying = nil
	e := before.extent()
	err := copyThrough(w.out, w.from.file, transfer{e.start, w.position, e.length}, make([]byte, maxBlockSize))
	w.position += e.length
	return err
}

// dead is how many bytes between those that are kept are of no use.
func (s *stays) dead() uint64 {
	dead := s.to - s.from
	for _, r := range s.ranges() {
		dead -= uint64(r.Length)
	}
	return dead
}

// errTooEmpty is returned when too little of the old archive stays.
var errTooEmpty = errors.New("too much of the archive would be empty")

// judge tells whether little enough of the archive's data, up to end, is dead.
func (w *writer) judge(end uint64) error {
	if w.stays == nil {
		return nil
	}
	dead := w.stays.dead()
	if dead*deadShare > end {
		w.log.Info("the archive is made once more, compact: too much of it is empty", "dead_bytes", dead)
		return errTooEmpty
	}
	w.log.Info("what is unchanged stays at its place", "ranges", len(w.stays.ranges()), "dead_bytes", dead)
	var err error
	w.unchanged, err = w.reuse.from.joined(w.stays.ranges())
	return err
}

// foresee gives up beforehand what judge would reject in any case, so that
// nothing is written twice.
func (w *writer) foresee(root *node) {
	if w.stays == nil {
		return
	}
	most := &stays{from: w.stays.from, to: w.stays.to}
	end := most.to + w.mayStay(root, most)
	for index, f := range w.reuse.fragments {
		if b, err := w.reuse.from.fragment(index); err == nil && f.keep {
			end += most.keep(b.extent())
		}
	}
	if dead := most.dead(); dead*deadShare > end {
		w.log.Info("the archive is made compact: too much of it would be empty", "dead_bytes", dead)
		w.stays = nil
	}
}

// mayStay adds the blocks of all files below a directory that may stay, and
// returns how many bytes the others need at the most.
func (w *writer) mayStay(dir *node, most *stays) (others uint64) {
	for _, n := range dir.children {
		switch {
		case n.kind == typeDirectory:
			others += w.mayStay(n, most)
		case n.kind != typeFile || n.same != nil:
		case n.base == nil:
			others += uint64(n.stamp.size)
		default:
			others += most.keep(n.base.file.extent())
			if !n.base.trusted || n.base.file.fragment != noFragment && !w.reuse.fragments[n.base.file.fragment].keep {
				others += uint64(n.stamp.size)
			}
		}
	}
	return others
}

// compact begins again, without anything that stays.
func (w *writer) compact() error {
	w.stays = nil
	w.reuse.again()
	return w.out.Truncate(0)
}

// ranges are the parts that are kept.
func (s *stays) ranges() []artifacts.Range {
	slices.SortFunc(s.kept, func(a, b extent) int { return int(int64(a.start) - int64(b.start)) })
	var ranges []artifacts.Range
	for _, e := range s.kept {
		if e.length == 0 {
			continue
		}
		start, end := int64(e.start), int64(e.start+e.length)
		if last := len(ranges) - 1; last >= 0 && start <= ranges[last].Offset+ranges[last].Length {
			ranges[last].Length = max(ranges[last].Length, end-ranges[last].Offset)
			continue
		}
		ranges = append(ranges, artifacts.Range{Offset: start, Length: end - start})
	}
	return ranges
}

// joined are ranges with what lies between them, where that is zero: it was dropped
// before, and is zero again.
func (a *Archive) joined(ranges []artifacts.Range) (joined []artifacts.Range, err error) {
	for _, r := range ranges {
		zero := false
		last := len(joined) - 1
		if last >= 0 {
			if zero, err = a.isZero(joined[last].Offset+joined[last].Length, r.Offset); err != nil {
				return nil, err
			}
		}
		if zero {
			joined[last].Length = r.Offset + r.Length - joined[last].Offset
			continue
		}
		joined = append(joined, r)
	}
	return joined, nil
}

// isZero tells whether nothing but zeros lies in a part of the archive.
func (a *Archive) isZero(from, to int64) (bool, error) {
	for buffer := make([]byte, min(to-from, metadataSize)); from < to; {
		part := buffer[:min(to-from, metadataSize)]
		if _, err := a.r.ReadAt(part, from); err != nil {
			return false, readError(err)
		}
		if !bytes.Equal(part, zeros[:len(part)]) {
			return false, nil
		}
		from += int64(len(part))
	}
	return true, nil
}
