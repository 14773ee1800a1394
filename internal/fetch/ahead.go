package fetch

import (
	"errors"
	"io"
	"io/fs"
	"time"
)

// How often a piece is asked for, and the longest pause between. The stream brings
// it, too.
const (
	aheadAttempts = 3
	aheadPause    = 4 * time.Second
)

// fetchAhead gets what is missing of a piece, by a request of its own. When that
// is not possible there will be no others, and whoever waits for a piece waits
// for the stream.
func (d *Download) fetchAhead(piece int64) {
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-d.ctx.Done():
		d.fail(d.ctx.Err())
		return
	}
	to := min((piece+1)*d.limits.piece, d.version.Size)
	p := patience{Download: d, attempts: aheadAttempts, longest: min(aheadPause, d.limits.longest)}
	for {
		from := d.missing(piece * d.limits.piece)
		if from >= to {
			return
		}
		err := p.after(d.fetchPart(from, to), from)
		switch {
		case d.ctx.Err() != nil:
			d.fail(d.ctx.Err())
			return
		case ruinous(err):
			d.fail(err)
			return
		case err != nil:
			d.noRanges(clean(err))
			return
		}
	}
}

func (d *Download) missing(at int64) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.there.end(at)
}

func (d *Download) fetchPart(from, to int64) error {
	a, err := d.ask(from, to, d.version.condition())
	if err != nil {
		return err
	}
	if err := d.version.same(a.header, a.size); err != nil || !a.part {
		a.close()
		if err == nil {
			err = errWhole
		}
		return err
	}
	return d.receivePart(a, to)
}

// receivePart takes what comes of a part; the caller sees what is missing then.
func (d *Download) receivePart(a *answer, to int64) error {
	defer a.close()
	piece := make([]byte, min(buffer, to-a.from))
	for at := a.from; at < to; {
		n, err := a.body.Read(piece[:min(int64(len(piece)), to-at)])
		if err := d.store(piece[:n], at); err != nil {
			return err
		}
		at += int64(n)
		if err != nil {
			return ended(err, at, a.to)
		}
	}
	return nil
}

// ended is what the end of an answer that has come to an offset means. A server
// may give less than was asked for.
func ended(err error, at, to int64) error {
	switch {
	case err != io.EOF:
		return err
	case at < to:
		return errShort
	}
	return nil
}

var errWhole = final{errors.New("the server gives whole files only")}

// ruinous tells what ends the download, although only a part was asked for.
func ruinous(err error) bool {
	var disk *fs.PathError
	return errors.Is(err, errChanged) || errors.As(err, &disk)
}

// noRanges gives parts up.
func (d *Download) noRanges(why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ranges {
		d.opts.Log.Info("the file is read in the order in which it comes", "url", show(d.url), "reason", why)
	}
	d.ranges = false
	d.changed.Broadcast()
}
