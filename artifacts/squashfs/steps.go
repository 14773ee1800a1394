package squashfs

import (
	"crypto/sha256"
)

// stepBlock writes a block of a file.
func stepBlock(w *dataWriter, j *job) error {
	if w.begun != j.file {
		w.begun, w.start, w.blocks, w.sums, w.staying = j.file, w.position, nil, w.sums[:0], j.stay
	}
	if w.staying != nil && !j.isSame() {
		if err := w.leave(); err != nil {
			return err
		}
	}
	size := uint32(0)
	if w.staying != nil {
		size = j.base.size
	} else if j.stored != nil {
		b, err := w.store(j)
		if err != nil {
			return err
		}
		size = b.size
	}
	w.blocks = append(w.blocks, size)
	if j.hash {
		w.sums = append(w.sums, j.sum[:]...)
	}
	return nil
}

// stepEnd makes what was written the file's content, or takes it back when
// another file has the same.
func stepEnd(w *dataWriter, j *job) error {
	content := layout{start: w.start, blocks: w.blocks, fragment: noFragment, sparse: w.sparse(w.blocks, j.file)}
	known, id := false, contentID{size: j.file.stamp.size}
	if j.hash {
		id.sum = sha256.Sum256(w.sums)
		var same layout
		if same, known = w.known[id]; known {
			content, w.position = same, w.start
		}
	}
	if w.staying != nil && !known {
		content.start = w.staying.file.start
		if _, err := w.takeOver(content.extent()); err != nil {
			return err
		}
	}
	if j.hash {
		w.known[id] = content
	}
	j.file.content, w.begun = content, nil
	return nil
}

// sparse is how many of a file's bytes are in blocks of zeros.
func (w *dataWriter) sparse(blocks []uint32, n *node) (total uint64) {
	for i, size := range blocks {
		if size == 0 {
			total += uint64(min(int64(w.blockSize), n.stamp.size-int64(i)*int64(w.blockSize)))
		}
	}
	return total
}

// stepDrop takes back what was written of a file that has changed meanwhile.
func stepDrop(w *dataWriter, j *job) error {
	if w.begun == j.file {
		w.position, w.begun = w.start, nil
	}
	return nil
}

// stepTails writes a fragment.
func stepTails(w *dataWriter, j *job) error {
	b, err := w.store(j)
	w.setFragment(j.index, b)
	return err
}

// setFragment puts a fragment where its index says: files refer to it before it
// is written.
func (w *dataWriter) setFragment(index uint32, b dataBlock) {
	if missing := int(index) + 1 - len(w.fragments); missing > 0 {
		w.fragments = append(w.fragments, make([]dataBlock, missing)...)
	}
	w.fragments[index] = b
}
