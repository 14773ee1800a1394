package squashfs

import (
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// progressPace is how often progress is told.
const progressPace = 500 * time.Millisecond

// counter is how far work is.
type counter struct{ done, total atomic.Int64 }

// watch tells about a counter until the function returned is called, which tells
// once more; nil is nobody to tell.
func watch(c *counter, tell func(done, total int64)) (stop func()) {
	if tell == nil {
		return func() {}
	}
	return every(progressPace, func() {
		total := c.total.Load()
		tell(min(c.done.Load(), total), total)
	})
}

// every calls f at that pace until the function returned is called, which calls
// it once more.
func every(pace time.Duration, f func()) (stop func()) {
	end := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f()
			case <-end:
				f()
				return
			}
		}
	})
	return func() {
		close(end)
		ended.Wait()
	}
}

// countingReader counts what has been read.
type countingReader struct {
	io.ReaderAt
	*counter
}

func (c countingReader) ReadAt(p []byte, at int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, at)
	c.done.Add(int64(n))
	return n, err
}

// lostXattrs are attributes that a file system or a process without privileges
// could not take.
type lostXattrs struct {
	mu    sync.Mutex // protects the following
	count int
	name  string // the first
	err   error
}

func (l *lostXattrs) add(name string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count++; l.count == 1 {
		l.name, l.err = name, err
	}
}

func (l *lostXattrs) report(log *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count > 0 && log != nil {
		log.Warn("extended attributes are not kept here", "count", l.count, "first", l.name, "error", l.err)
	}
}
