package scp

import (
	"cmp"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"buildenv/internal/wording"
)

// receiveFile takes one file's bytes, even when they cannot be written, for
// they come in any case.
func (t *transfer) receiveFile(h header, name string, when *times) error {
	f, before, err := t.create(name, h.mode|unix.S_IWUSR)
	if err != nil {
		t.audit("receive", name, err)
		return t.fail("%s: %s", name, wording.Reason(err))
	}
	defer f.Close()
	if err := t.peer.accept(); err != nil {
		return err
	}
	n, err := t.receiveContent(f, h.size, name)
	if err == nil {
		err = t.finishFile(f, h, name, before, when)
	}
	t.audit("receive", name, cmp.Or(t.noted, err), "bytes", n, "mode", fmt.Sprintf("%04o", h.mode))
	return err
}

// finishFile does what is left when all bytes are there.
func (t *transfer) finishFile(f *os.File, h header, name string, before *unix.Stat_t, when *times) error {
	t.settle(f, h, name, before)
	if _, err := t.response(); err != nil {
		return err
	}
	return t.conclude(name, when)
}

// create opens a file for what is to come, and says what was there before.
func (t *transfer) create(name string, mode uint32) (f *os.File, before *unix.Stat_t, err error) {
	err = t.inJail(func() error {
		var st unix.Stat_t
		if unix.Stat(t.at(name), &st) == nil {
			before = &st
		}
		const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
		fd, err := unix.Open(t.at(name), flags, mode)
		if err == nil {
			f, err = unlessFifo(fd, name)
		}
		return err
	})
	return f, before, err
}

// unlessFifo refuses what may take no bytes for as long as it likes.
func unlessFifo(fd int, name string) (*os.File, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
		err = unix.ENXIO
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// block is how much OpenSSH's scp writes at once.
const block = 16 << 10

// receiveContent writes size bytes of the client's and returns how many were
// written; an error in writing is noted.
func (t *transfer) receiveContent(f *os.File, size int64, name string) (written int64, err error) {
	t.noted, t.complaint = nil, ""
	buf := make([]byte, min(size, bufferSize))
	for size > 0 {
		chunk := buf[:min(size, bufferSize)]
		n, err := io.ReadFull(t.peer.r, chunk)
		if err != nil {
			n -= n % block // of a file that is cut OpenSSH leaves whole blocks
		}
		if t.noted == nil {
			n, err := f.Write(chunk[:n])
			written += int64(n)
			t.note(name, "", err)
		}
		if err != nil {
			return written, t.breakOff("%s", wording.Reason(unix.EPIPE))
		}
		size -= int64(n)
	}
	return written, nil
}

// settle gives a file its length and mode. A file that was there keeps its
// mode, unless modes are to be kept.
func (t *transfer) settle(f *os.File, h header, name string, before *unix.Stat_t) {
	if t.noted == nil && (before == nil || before.Mode&unix.S_IFMT == unix.S_IFREG) {
		t.note(name, "truncate: ", f.Truncate(h.size))
	}
	missing := h.mode&unix.S_IWUSR == 0 // and was added for us to write
	if t.Preserve && before != nil || missing && (t.Preserve || before == nil) {
		t.note(name, "set mode: ", t.fchmod(f, h.mode))
	}
	t.note(name, "close: ", f.Close())
}

func (t *transfer) fchmod(f *os.File, mode uint32) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var chmodErr error
	if err := conn.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), mode) }); err != nil {
		return err
	}
	return chmodErr
}

// note keeps the first error of a file for when the client listens.
func (t *transfer) note(name, what string, err error) {
	if err == nil {
		return
	}
	t.failed = true
	if t.noted == nil {
		t.noted, t.complaint = err, name+": "+what+wording.Reason(err)
	}
}

// conclude sets the times and tells the client how it went.
func (t *transfer) conclude(name string, when *times) error {
	if t.noted == nil && when != nil {
		t.note(name, "set times: ", t.utimes(name, when))
	}
	if t.noted != nil {
		return t.fail("%s", t.complaint)
	}
	return t.peer.accept()
}
