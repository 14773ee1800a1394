package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// buffer is how much is read at once.
const buffer = 256 << 10

var errShort = errors.New("the server gave less than it had announced")

// stream brings the file from its begin to its end, by as many requests as it
// takes.
func (d *Download) stream(a *answer) error {
	p := patience{Download: d, attempts: d.limits.resume, longest: d.limits.longest, position: d.position()}
	for {
		var err error
		if a == nil {
			a, err = d.goOn()
		}
		if err == nil {
			err = d.receive(a)
		}
		if d.whole() {
			return d.note(1)
		}
		a = nil
		if err := p.after(err, d.position()); err != nil {
			return err
		}
	}
}

// position is how far everything is there.
func (d *Download) position() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.there.end(0)
}

func (d *Download) whole() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.version.Size != unknown && d.there.end(0) >= d.version.Size
}

// goOn asks for what is missing, or for everything where parts cannot be had:
// then what is there is compared.
func (d *Download) goOn() (*answer, error) {
	from, condition := d.position(), d.version.condition()
	if condition == "" {
		from = 0
	}
	a, err := d.ask(from, unknown, condition)
	if err != nil {
		return nil, err
	}
	if err := d.version.same(a.header, a.size); err != nil {
		a.close()
		return nil, err
	}
	if !a.part && from > 0 {
		d.noRanges(errWhole.Error())
	}
	return a, nil
}

// receive takes an answer to its end, or until most of what it would bring is
// there already.
func (d *Download) receive(a *answer) error {
	defer a.close()
	piece := make([]byte, buffer)
	for at := a.from; ; {
		n, err := a.body.Read(piece)
		if err := d.store(piece[:n], at); err != nil {
			return err
		}
		at += int64(n)
		if err := d.note(d.limits.save); err != nil {
			return err
		}
		if d.enough(at) {
			return nil
		}
		switch {
		case err == io.EOF && a.to == unknown:
			return d.setSize(at)
		case err == io.EOF:
			return errShort
		case err != nil:
			return err
		}
	}
}

// enough tells whether an answer that has come to an offset is of no more use.
func (d *Download) enough(at int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	end := d.there.end(at)
	return end == d.version.Size && d.there.end(0) == end || d.ranges && end-at >= d.limits.skip
}

// setSize is for files of which the server did not tell it.
func (d *Download) setSize(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if end := d.there.end(0); size < end {
		return final{fmt.Errorf("%w: it has %d bytes, before it had %d", errChanged, size, end)}
	}
	d.version.Size = size
	d.changed.Broadcast()
	return nil
}

// store writes what is missing to the spool, and compares what is there.
func (d *Download) store(b []byte, at int64) error {
	if len(b) == 0 {
		return nil
	}
	d.writing.Lock()
	defer d.writing.Unlock()
	if end := at + int64(len(b)); end > d.opts.MaxBytes || d.version.Size != unknown && end > d.version.Size {
		return final{errors.New("the server gives more than it had announced, or than is allowed")}
	}
	for len(b) > 0 {
		n, there := d.alike(at, int64(len(b)))
		var err error
		if there {
			err = d.compare(b[:n], at)
		} else {
			err = d.write(b[:n], at)
		}
		if err != nil {
			return final{err}
		}
		b, at = b[n:], at+n
	}
	return nil
}

// alike is how many of n bytes are all there, or all missing.
func (d *Download) alike(at, n int64) (int64, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.there.run(at, n)
}

func (d *Download) write(b []byte, at int64) error {
	if _, err := d.spool.WriteAt(b, at); err != nil {
		return err
	}
	d.mu.Lock()
	d.there.add(span{at, at + int64(len(b))})
	d.changed.Broadcast()
	d.mu.Unlock()
	d.opts.Progress(d.Done())
	return nil
}

func (d *Download) compare(b []byte, at int64) error {
	before := make([]byte, len(b))
	if _, err := d.spool.ReadAt(before, at); err != nil {
		return err
	}
	if !bytes.Equal(b, before) {
		return fmt.Errorf("%w: it gives other bytes at %d than before", errChanged, at)
	}
	return nil
}
