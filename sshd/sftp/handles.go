package sftp

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxHandles bounds what one client can hold open. It is announced in the
// answer to limits@openssh.com; sshfs keeps the most, some hundreds.
const maxHandles = 1000

var (
	// errHandle is returned for a handle that is not open, or not of the kind
	// that the request needs. Clients see a plain failure, as from OpenSSH.
	errHandle         = errors.New("no such handle")
	errTooManyHandles = errors.New("too many open handles: close some")
)

// A handle is a file or directory that the client has open.
type handle struct {
	name       string // as the client named it
	file       *os.File
	appends    bool // writes go to the end, whatever offset they name
	directory  bool
	dotsListed bool // "." and ".." of a directory have been sent
	read       atomic.Int64
	written    int64
}

// handles are the open handles of a session, by the number that the client
// knows them by. No number is used again, so that a handle used after its
// close cannot hit another file.
type handles struct {
	open map[uint64]*handle
	next uint64
}

// full is checked before a file is opened, so that an open that is going to be
// refused cannot create or truncate anything first.
func (h *handles) full() bool { return len(h.open) >= maxHandles }

func (h *handles) add(f *handle) uint64 {
	h.next++
	h.open[h.next] = f
	return h.next
}

// handle decodes the number of a handle. What is not eight bytes long was not
// given out by this server and reads as zero, which is no handle either.
func (d *decoder) handle() uint64 {
	b := d.bytes()
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func (h *handles) file(n uint64) (*handle, error) {
	f := h.open[n]
	if f == nil || f.directory {
		return nil, errHandle
	}
	return f, nil
}

func (h *handles) directory(n uint64) (*handle, error) {
	d := h.open[n]
	if d == nil || !d.directory {
		return nil, errHandle
	}
	return d, nil
}

// handle makes p the reply that gives the client a new handle.
func (p *packet) handle(n uint64) {
	p.setKind(fxpHandle)
	p.u32(8)
	p.u64(n)
}

// writeAt writes at an offset, or at the end of a file opened for appending,
// for which os.File refuses WriteAt.
func (h *handle) writeAt(data []byte, offset int64) error {
	var n int
	var err error
	if h.appends {
		n, err = h.file.Write(data)
	} else {
		n, err = h.file.WriteAt(data, offset)
	}
	h.written += int64(n)
	return err
}

// fileOffset refuses offsets that the kernel would: those beyond 2⁶³.
func fileOffset(v uint64) (int64, error) {
	if v > math.MaxInt64 {
		return 0, unix.EINVAL
	}
	return int64(v), nil
}

// onDescriptor runs op on the descriptor of an open file and keeps it open
// meanwhile, without the change to blocking mode that File.Fd makes.
func onDescriptor(f *os.File, op func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	if err := conn.Control(func(fd uintptr) { opErr = op(int(fd)) }); err != nil {
		return err
	}
	return opErr
}
