package session

import (
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// chunk is how much is copied at a time: what a packet of the channel holds.
const chunk = 32 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// copyOutput copies from a pipe or a terminal until it ends or to fails. It
// holds a buffer while there is something in it only: most sessions wait most
// of the time.
func copyOutput(to io.Writer, from *os.File) error {
	raw, err := from.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var buffer *[chunk]byte
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			buffer = chunks.Get().(*[chunk]byte)
			n, failed = fill(int(fd), buffer[:])
			if failed != unix.EAGAIN {
				return true
			}
			chunks.Put(buffer)
			return false // called again when there is something
		})
		if err != nil {
			return err // closed, by us
		}
		if n > 0 {
			_, failed = to.Write(buffer[:n])
		}
		chunks.Put(buffer)
		if n <= 0 || failed != nil {
			return failed
		}
	}
}

// fill reads what is there, up to len(p). A terminal gives a page at a time.
func fill(fd int, p []byte) (n int, err error) {
	for n < len(p) {
		m, err := readOnce(fd, p[n:])
		if m <= 0 && n > 0 {
			break // the next call meets it again
		}
		if m <= 0 {
			return m, err
		}
		n += m
	}
	return n, nil
}

func readOnce(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// keystrokes is how much input is taken into a buffer of one's own.
const keystrokes = 512

// copyInput copies a channel's input until it ends or to fails. A channel lends
// no buffer, so there must be one to wait with; a small one, until input that
// fills it shows that more is to come.
func copyInput(to io.Writer, from io.Reader) error {
	var small [keystrokes]byte
	for {
		n, err := from.Read(small[:])
		if n > 0 {
			if _, err := to.Write(small[:n]); err != nil {
				return err
			}
		}
		if err == nil && n == len(small) {
			err = copyBulk(to, from)
		}
		if err != nil {
			return err
		}
	}
}

// copyBulk copies until input comes in small pieces again.
func copyBulk(to io.Writer, from io.Reader) error {
	buffer := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buffer)
	for {
		n, err := from.Read(buffer[:])
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if err != nil || n < keystrokes {
			return err
		}
	}
}
