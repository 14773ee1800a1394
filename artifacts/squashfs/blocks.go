package squashfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"
)

// dataWriter writes the contents of files. One goroutine feeds it blocks,
// several compress them side by side, one writes them in the order in which
// they were fed. So the archive does not depend on how many there are, and
// only what is under way is in memory.
type dataWriter struct {
	ctx       context.Context
	out       io.WriterAt
	from      *reuse // where blocks are taken over from, nil for nowhere
	stays     *stays // those that stay where they are; nil: they are moved
	blockSize int
	raw       bool // nothing is compressed
	todo      chan *job
	queue     chan *job
	transfers chan transfer // what is copied from the old archive, meanwhile
	buffers   sync.Pool

	// The following belong to the goroutine that writes.
	position  uint64
	fragments []dataBlock
	begun     *node    // the file whose blocks are being written
	staying   *Inode   // its counterpart, while all of its blocks are the same and may stay; nothing is written then
	start     uint64   // of its first block
	blocks    []uint32 // that are written
	sums      []byte   // of all its blocks
	known     map[contentID]layout
	copied    map[extent]uint64 // where blocks are now that have been taken over
	pending   transfer
}

// job is one step of writing.
type job struct {
	step   func(*dataWriter, *job) error
	file   *node
	data   []byte // a block before compression, nil for zeros
	stored []byte // the same as it is stored
	raw    bool
	base   dataBlock // the block of the old archive that may hold the same, or is taken over
	same   bool      // it holds the same
	stay   *Inode    // of the old archive, whose blocks may stay where they are if all are the same; nil for none
	layout layout    // of a file that is taken over
	index  uint32    // of a fragment
	hash   bool      // whether sum is wanted
	sum    [sha256.Size]byte
	err    error
	done   chan struct{} // closed when stored is there; nil if there is nothing to compress
}

// contentID identifies a content.
type contentID struct {
	size int64
	sum  [sha256.Size]byte
}

func newDataWriter(ctx context.Context, out io.WriterAt, s *settings, position uint64) *dataWriter {
	w := &dataWriter{
		ctx: ctx, out: out, blockSize: s.blockSize, raw: s.raw, position: position,
		todo: make(chan *job, s.processors), queue: make(chan *job, 2*s.processors), transfers: make(chan transfer, 64),
		known: map[contentID]layout{}, copied: map[extent]uint64{},
	}
	w.buffers.New = func() any { b := make([]byte, 0, s.blockSize); return &b }
	return w
}

// run feeds and writes until feed returns, and calls then once it is known where
// everything lies. What is taken over may still be on its way by then.
func (w *dataWriter) run(s *settings, feed, then func() error) error {
	group, ctx := errgroup.WithContext(w.ctx)
	w.ctx = ctx
	for range s.processors {
		c, err := s.newCompressor()
		if err != nil {
			return err
		}
		group.Go(func() error { return w.work(&worker{dataWriter: w, compressor: c}) })
	}
	group.Go(func() error {
		defer close(w.queue)
		defer close(w.todo)
		return feed()
	})
	group.Go(func() error {
		err := errors.Join(w.write(), w.settle())
		close(w.transfers)
		if err != nil || ctx.Err() != nil {
			return err
		}
		return then()
	})
	group.Go(w.copy)
	return group.Wait()
}

func (w *dataWriter) buffer() []byte { return (*w.buffers.Get().(*[]byte))[:0] }

func (w *dataWriter) recycle(b []byte) {
	if cap(b) >= w.blockSize {
		w.buffers.Put(&b)
	}
}

// submit queues a step.
func (w *dataWriter) submit(j *job) error {
	if j.data != nil {
		j.done = make(chan struct{})
	}
	select {
	case w.queue <- j:
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
	if j.done == nil {
		return nil
	}
	select {
	case w.todo <- j:
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

func (w *dataWriter) work(worker *worker) error {
	for {
		select {
		case j, more := <-w.todo:
			if !more {
				return nil
			}
			j.err = worker.prepare(j)
			close(j.done)
		case <-w.ctx.Done():
			return nil
		}
	}
}

var zeros [maxBlockSize]byte

// worker compresses. It serves one goroutine.
type worker struct {
	*dataWriter
	compressor compressor
	scratch    []byte // for a block of the old archive
}

// prepare compresses a block. What does not become smaller is stored as it is,
// and a block of zeros not at all.
func (w *worker) prepare(j *job) (err error) {
	if j.hash {
		j.sum = sha256.Sum256(j.data)
	}
	if j.file != nil && bytes.Equal(j.data, zeros[:len(j.data)]) {
		w.recycle(j.data)
		j.data = nil
		return nil
	}
	if j.base.bytes() > 0 && w.sameAsBefore(j) {
		w.recycle(j.data)
		j.data = nil
		return nil
	}
	if !w.raw {
		if j.stored, err = w.compressor.compress(w.buffer(), j.data); err != nil {
			return fmt.Errorf("compress: %w", err)
		}
	}
	if w.raw || len(j.stored) >= len(j.data) {
		j.stored, j.data, j.raw = j.data, j.stored, true
	}
	w.recycle(j.data)
	j.data = nil
	return nil
}

// sameAsBefore takes a block as the old archive has it, if that holds the same.
func (w *worker) sameAsBefore(j *job) bool {
	if w.scratch == nil {
		w.scratch = make([]byte, w.blockSize)
	}
	stored := w.buffer()[:w.blockSize]
	then := w.scratch[:len(j.data)]
	if err := w.from.from.exactly(then, stored, j.base); err != nil || !bytes.Equal(then, j.data) {
		w.recycle(stored)
		return false
	}
	j.stored, j.raw = stored[:j.base.bytes()], j.base.size&rawData != 0
	if j.raw {
		copy(j.stored, then)
	}
	w.from.taken.Add(int64(len(j.stored)))
	j.same = true
	return true
}

func (w *dataWriter) write() error {
	for {
		select {
		case j, more := <-w.queue:
			if !more {
				return nil
			}
			if err := w.take(j); err != nil {
				return err
			}
		case <-w.ctx.Done():
			return nil
		}
	}
}

func (w *dataWriter) take(j *job) error {
	if j.done != nil {
		select {
		case <-j.done:
		case <-w.ctx.Done():
			return nil
		}
	}
	if j.err != nil {
		return j.err
	}
	err := j.step(w, j)
	w.recycle(j.stored)
	return err
}

// store writes a block.
func (w *dataWriter) store(j *job) (dataBlock, error) {
	b := dataBlock{start: w.position, size: uint32(len(j.stored))}
	if j.raw {
		b.size |= rawData
	}
	_, err := w.out.WriteAt(j.stored, int64(w.position))
	w.position += uint64(len(j.stored))
	return b, err
}
