package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	holeBlock  = 4 << 10   // the usual block of a file system: smaller holes save nothing
	readBlock  = 128 << 10 // a multiple of holeBlock
	rangeBlock = 16 << 20  // what is copied between two looks at the context
)

var zeros [holeBlock]byte

// writeSparse fills an empty file and leaves holes where blocks are zero, so
// that a sparse file stays one however the archive holds it.
func (t *tree) writeSparse(ctx context.Context, f *os.File, content io.Reader) error {
	size, written := int64(0), int64(0)
	for {
		n, err := io.ReadFull(content, t.buffer)
		if err := t.budget.grow(ctx, int64(n)); err != nil {
			return err
		}
		for block := range slices.Chunk(t.buffer[:n], holeBlock) {
			if !bytes.Equal(block, zeros[:len(block)]) {
				if _, err := f.WriteAt(block, size); err != nil {
					return err
				}
				written = size + int64(len(block))
			}
			size += int64(len(block))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if written == size {
		return nil
	}
	return f.Truncate(size)
}

// copyContent copies a file of the given size the cheapest way there is: shared
// blocks, a copy inside the kernel, or through memory, and holes stay holes.
func (t *tree) copyContent(ctx context.Context, dst, src *os.File, size int64) error {
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return t.budget.grow(ctx, size)
	}
	for end := int64(0); end < size; {
		start, next, err := dataRange(src, end, size)
		if err != nil {
			return err
		}
		if err := t.budget.grow(ctx, start-end); err != nil {
			return err
		}
		if err := t.copyRange(ctx, dst, src, start, next); err != nil {
			return err
		}
		end = next
	}
	return dst.Truncate(size)
}

// dataRange is the next stretch of data from an offset on, empty at the end of
// the file when only a hole is left (lseek(2), SEEK_DATA). A file system that
// knows no holes has one stretch.
func dataRange(f *os.File, from, size int64) (start, end int64, err error) {
	start, err = f.Seek(from, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size, nil
	case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP):
		return from, size, nil
	case err != nil:
		return 0, 0, err
	}
	end, err = f.Seek(start, unix.SEEK_HOLE)
	return min(start, size), min(end, size), err
}

func (t *tree) copyRange(ctx context.Context, dst, src *os.File, start, end int64) error {
	if _, err := src.Seek(start, io.SeekStart); err != nil {
		return err
	}
	if _, err := dst.Seek(start, io.SeekStart); err != nil {
		return err
	}
	for start < end {
		n := min(end-start, rangeBlock)
		if err := t.budget.grow(ctx, n); err != nil {
			return err
		}
		// Two files: the standard library uses copy_file_range(2) where that works.
		if _, err := io.CopyN(dst, src, n); errors.Is(err, io.EOF) {
			return fmt.Errorf("file became shorter while it was copied: %w", io.ErrUnexpectedEOF)
		} else if err != nil {
			return err
		}
		start += n
	}
	return nil
}
