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
	e := content.extent()
	to, known := w.copied[e]
	if !known {
		var err error
		if to, err = w.takeOver(e); err != nil {
			return err
		}
		w.copied[e] = to
		w.from.taken.Add(int64(e.length))
	}
	content.start, content.sparse = to, w.sparse(content.blocks, j.file)
	if len(content.blocks) == 0 {
		content.start = 0
	}
	j.file.content = content
	return nil
}

// extent is where the blocks lie.
func (l *layout) extent() extent {
	e := extent{start: l.start}
	for _, size := range l.blocks {
		e.length += uint64(dataBlock{size: size}.bytes())
	}
	return e
}

// stepKeepFragment takes over a fragment.
func stepKeepFragment(w *dataWriter, j *job) error {
	to, err := w.takeOver(j.base.extent())
	w.from.taken.Add(int64(j.base.bytes()))
	w.setFragment(j.index, dataBlock{to, j.base.size})
	return err
}

// takeOver has a part of the old archive copied to the end of the new one, or to
// where it is.
func (w *dataWriter) takeOver(e extent) (to uint64, err error) {
	size := w.from.from.sb.Size
	if e.start > size || e.length > size-e.start {
		return 0, malformed("blocks of %d bytes at %d", e.length, e.start)
	}
	if to = w.position; w.stays.holds(e) {
		to = e.start
	}
	w.position += w.stays.keep(e)
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

// copyRange copies within the kernel where it can.
func copyRange(out io.WriterAt, in *os.File, t transfer, buffer []byte) error {
	if file, ok := out.(*os.File); ok {
		for _, way := range []func(out, in *os.File, t *transfer) error{cloneRange, sendRange} {
			if err := way(file, in, &t); err != nil {
				return err
			}
		}
	}
	return copyThrough(out, in, t, buffer)
}

// copyThrough copies through this process. Others may copy meanwhile.
func copyThrough(out io.WriterAt, in *os.File, t transfer, buffer []byte) error {
	n, err := io.CopyBuffer(io.NewOffsetWriter(out, int64(t.to)), io.NewSectionReader(in, int64(t.from), int64(t.length)), buffer)
	if err == nil && uint64(n) != t.length {
		err = malformed("truncated")
	}
	return err
}

// atOnce is how much one call copies at most, so that it can be interrupted.
const atOnce = 1 << 30

// cloneRange copies as much as one file system can by itself; some share the
// blocks (copy_file_range(2)).
func cloneRange(out, in *os.File, t *transfer) error {
	return t.advance(func() (int, error) {
		from, to := int64(t.from), int64(t.to)
		return unix.CopyFileRange(int(in.Fd()), &from, int(out.Fd()), &to, int(min(t.length, atOnce)), 0)
	})
}

// sendRange copies from one file system to another without a way through this
// process (sendfile(2)). It moves the place at which out would be written to,
// which nothing else uses.
func sendRange(out, in *os.File, t *transfer) error {
	if _, err := out.Seek(int64(t.to), io.SeekStart); err != nil {
		return nil // not a file with places
	}
	return t.advance(func() (int, error) {
		from := int64(t.from)
		return unix.Sendfile(int(out.Fd()), int(in.Fd()), &from, int(min(t.length, atOnce)))
	})
}

// advance copies until nothing is left or this way does not work here.
func (t *transfer) advance(copy func() (int, error)) error {
	for t.length > 0 {
		n, err := copy()
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case n == 0 && err == nil, errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return nil
		case err != nil:
			return os.NewSyscallError("copy", err)
		}
		*t = transfer{t.from + uint64(n), t.to + uint64(n), t.length - uint64(n)}
	}
	return nil
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
