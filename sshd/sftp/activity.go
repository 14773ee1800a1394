package sftp

import (
	"sync/atomic"
	"time"
)

// A transfer counts as resting when nothing has happened for this long: while
// files are open, longer than a client on a slow link takes between two
// packets; with none open, longer than one takes from a file to the next.
const (
	restWithFiles    = 2 * time.Second
	restWithoutFiles = 200 * time.Millisecond
)

// An Activity tells others what a session is doing. The zero value is ready;
// a server that wants to end asks it whether that would cut something short.
// It is safe for concurrent use.
type Activity struct {
	pending atomic.Int64 // requests that began to arrive and are not answered
	files   atomic.Int64 // that are open
	last    atomic.Int64 // when a request was answered last, UnixNano
}

// Busy reports whether a transfer or another request is under way. A file that
// is open without being read or written, as sshfs leaves them, is not.
func (a *Activity) Busy() bool {
	rest := restWithoutFiles
	if a.files.Load() > 0 {
		rest = restWithFiles
	}
	return a.pending.Load() > 0 || time.Since(time.Unix(0, a.last.Load())) < rest
}

func (a *Activity) begin() { a.pending.Add(1) }

func (a *Activity) end(answered int) {
	a.last.Store(time.Now().UnixNano())
	a.pending.Add(-int64(answered))
}
