package squashfs

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// extent is a part of the old archive: blocks that follow each other.
type extent struct {
	start  uint64
	length uint64
}

// transfer is bytes that are still to be copied from the old archive. Files that
// follow each other in both archives are copied in one piece.
type transfer struct {
	from, to, length uint64
}

// stepTakeOver gives a file the blocks that it has in the old archive. Files that
// share them there share them here.
func stepTakeOver(w *dataWriter, j *job) error {
	content := j.layout
	e := extent{start: content.start}
	for _, size := range content.blocks {
		e.length += uint64(dataBlock{size: size}.bytes())
	}
	to, known := w.copied[e]
	if !known {
		var err error
		if to, err = w.takeOver(e); err != nil {
			return err
		}
		w.copied[e] = to
	}
	content.start, content.sparse = to, w.sparse(content.blocks, j.file)
	if len(content.blocks) == 0 {
		content.start = 0
	}
	j.file.content = content
	return nil
}

// stepKeepFragment takes over a fragment.
func stepKeepFragment(w *dataWriter, j *job) error {
	to, err := w.takeOver(extent{j.base.start, uint64(j.base.bytes())})
	w.setFragment(j.index, dataBlock{to, j.base.size})
	return err
}

// takeOver has a part of the old archive copied to the end of the new one.
func (w *dataWriter) takeOver(e extent) (to uint64, err error) {
	size := w.from.from.sb.Size
	if e.start > size || e.length > size-e.start {
		return 0, malformed("blocks of %d bytes at %d", e.length, e.start)
	}
	to = w.position
	w.position += e.length
	w.from.taken.Add(int64(e.length))
	if p := &w.pending; p.from+p.length == e.start && p.to+p.length == to {
		p.length += e.length
		return to, nil
	}
	if err := w.settle(); err != nil {
		return 0, err
	}
	w.pending = transfer{e.start, to, e.length}
	return to, nil
}

// settle has copied what is pending. Nothing else is ever written to its place.
func (w *dataWriter) settle() error {
	p := w.pending
	w.pending = transfer{}
	if p.length == 0 {
		return nil
	}
	select {
	case w.transfers <- p:
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// copy copies from the old archive while others read and compress.
func (w *dataWriter) copy() error {
	var buffer []byte
	for t := range w.transfers {
		if buffer == nil {
			buffer = make([]byte, 1<<20)
		}
		if err := w.ctx.Err(); err != nil {
			return nil // somebody else says why
		}
		if err := copyRange(w.out, w.from.file, t, buffer); err != nil {
			return err
		}
	}
	return nil
}

// copyRange copies within the kernel where it can: some file systems even share
// the blocks (copy_file_range(2)).
func copyRange(out io.WriterAt, in *os.File, t transfer, buffer []byte) error {
	if file, ok := out.(*os.File); ok {
		from, to := int64(t.from), int64(t.to)
		for t.length > 0 {
			n, err := unix.CopyFileRange(int(in.Fd()), &from, int(file.Fd()), &to, int(min(t.length, 1<<30)), 0)
			if n == 0 || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
				break
			}
			if err != nil {
				return os.NewSyscallError("copy", err)
			}
			t.length -= uint64(n)
		}
		t.from, t.to = uint64(from), uint64(to)
	}
	n, err := io.CopyBuffer(io.NewOffsetWriter(out, int64(t.to)), io.NewSectionReader(in, int64(t.from), int64(t.length)), buffer)
	if err == nil && uint64(n) != t.length {
		err = malformed("truncated")
	}
	return err
}

// oldBlocks are the blocks that the old archive has of a large file, nil for none.
func oldBlocks(n *node) []dataBlock {
	if n.base == nil {
		return nil
	}
	blocks := make([]dataBlock, 0, len(n.base.file.blocks))
	for i, start := range n.base.starts() {
		blocks = append(blocks, dataBlock{start, n.base.file.blocks[i]})
	}
	return blocks
}
