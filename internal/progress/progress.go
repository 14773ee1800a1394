// Package progress tells people how far long work has come.
//
// On a terminal a [Meter] is a bar on one line, drawn anew several times a
// second. Elsewhere nobody watches and somebody reads afterwards: then it is a
// log line every few seconds, and no line at all for work shorter than that.
package progress

import (
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

const (
	redraw  = 200 * time.Millisecond
	logPace = 5 * time.Second
)

// Meter counts the bytes of one piece of work. Its methods may be called from
// any goroutine.
type Meter struct {
	state
	from    atomic.Int64 // was done before it began
	done    atomic.Int64
	total   atomic.Int64
	stop    chan struct{}
	stopped sync.WaitGroup
	once    sync.Once
}

// Start begins to report work called what, of total bytes; 0 means that
// nobody knows how many. The bar goes to w when that is a terminal, otherwise
// lines go to log. Done ends it.
func Start(w io.Writer, log *slog.Logger, what string, total int64) *Meter {
	m := &Meter{state: state{what: what, begin: time.Now()}, stop: make(chan struct{})}
	m.total.Store(total)
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		m.stopped.Go(func() { m.report(redraw, func(s state) { draw(f, s) }) })
	} else {
		m.stopped.Go(func() { m.report(logPace, func(s state) { log.Info(s.what, s.attributes()...) }) })
	}
	return m
}

// Of tells how many bytes are done, and how many there are in all.
func (m *Meter) Of(done, total int64) {
	m.total.Store(total)
	m.done.Store(done)
}

// From tells how much was done before, by somebody else, and says nothing of the
// rate.
func (m *Meter) From(done int64) { m.from.Store(done) }

// Add tells that n more bytes are done.
func (m *Meter) Add(n int64) { m.done.Add(n) }

// Done ends the reports; nothing is written after it. It may be called again.
func (m *Meter) Done() {
	m.once.Do(func() { close(m.stop) })
	m.stopped.Wait()
}

// report shows the state at every tick, so nothing of work that ends before
// the first one. On a terminal a bar that has been drawn is drawn once more at
// the end: it is what remains on the screen.
func (m *Meter) report(pace time.Duration, show func(state)) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	shown := false
	for {
		select {
		case now := <-tick.C:
			show(m.at(now, false))
			shown = true
		case <-m.stop:
			if shown && pace == redraw {
				show(m.at(time.Now(), true))
			}
			return
		}
	}
}

// at is the state for one report.
func (m *Meter) at(now time.Time, last bool) state {
	s := m.state
	s.from, s.done, s.total, s.elapsed, s.last = m.from.Load(), m.done.Load(), m.total.Load(), now.Sub(s.begin), last
	return s
}
