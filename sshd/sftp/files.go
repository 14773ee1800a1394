package sftp

import (
	"os"

	"golang.org/x/sys/unix"
)

// Open flags, draft-ietf-secsh-filexfer-02 section 6.3.
const (
	openRead     = 1 << 0
	openWrite    = 1 << 1
	openAppend   = 1 << 2
	openCreate   = 1 << 3
	openTruncate = 1 << 4
	openExclude  = 1 << 5
)

// openFlags translates to open(2). Neither read nor write means read.
func openFlags(client uint32) int {
	flags := unix.O_RDONLY
	switch client & (openRead | openWrite) {
	case openRead | openWrite:
		flags = unix.O_RDWR
	case openWrite:
		flags = unix.O_WRONLY
	}
	for _, f := range []struct {
		client uint32
		kernel int
	}{
		{openAppend, unix.O_APPEND},
		{openCreate, unix.O_CREAT},
		{openTruncate, unix.O_TRUNC},
		{openExclude, unix.O_EXCL},
	} {
		if client&f.client != 0 {
			flags |= f.kernel
		}
	}
	return flags
}

// openFile opens path on the jail's thread, which all sessions of the jail
// wait for, and so must not be held up by a file: hence O_NONBLOCK. A fifo is
// refused, for it could not be read at an offset anyway. O_NOCTTY keeps a
// terminal in the image from becoming the server's own.
func openFile(path string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFIFO {
		unix.Close(fd)
		return nil, unix.ENXIO
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (s *session) open(in *decoder, out *packet) error {
	name, wanted, a := in.string(), in.u32(), in.attrs()
	if err := in.err(); err != nil {
		return err
	}
	flags, mode := openFlags(wanted), a.permissions(0o666)
	s.say(LogInfo, "open %s flags %s mode 0%o", quoted(name), openFlagString(wanted), mode)
	s.note("path", s.audited(name), "flags", openFlagString(wanted), "mode", octal(mode))
	if s.opts.ReadOnly && flags&(unix.O_ACCMODE|unix.O_CREAT|unix.O_TRUNC) != unix.O_RDONLY {
		s.say(LogVerbose, "Refusing open request in read-only mode")
		return unix.EACCES
	}
	h := &handle{name: name, appends: flags&unix.O_APPEND != 0}
	return s.openHandle(h, flags, mode, out)
}

// openHandle opens the file that h names and replies with its number.
func (s *session) openHandle(h *handle, flags int, mode uint32, out *packet) error {
	if s.handles.full() {
		return errTooManyHandles
	}
	path := s.absolute(h.name)
	err := s.inJail(func() (err error) {
		h.file, err = openFile(path, flags, mode)
		return err
	})
	if err != nil {
		return err
	}
	if !h.directory {
		s.activity.files.Add(1)
	}
	out.handle(s.handles.add(h))
	return nil
}

func (s *session) close(in *decoder, _ *packet) error {
	n := in.handle()
	if err := in.err(); err != nil {
		return err
	}
	h := s.handles.open[n]
	if h == nil {
		return unix.ENOENT // OpenSSH's answer
	}
	delete(s.handles.open, n)
	return s.closeHandle(h, "")
}

// closeHandle closes a handle and says what was done with it; how is "forced "
// when it is not the client who closes.
func (s *session) closeHandle(h *handle, how string) error {
	err := h.file.Close()
	if h.directory {
		s.say(LogInfo, "%sclosedir %s", how, quoted(h.name))
		return err
	}
	s.activity.files.Add(-1)
	read := h.read.Load()
	s.say(LogInfo, "%sclose %s bytes read %d written %d", how, quoted(h.name), read, h.written)
	s.note("path", s.audited(h.name), "read", read, "written", h.written)
	if how != "" {
		s.noted = append(s.noted, "forced", true)
	}
	s.record("close", err)
	return err
}

// A fileRead is a READ request that is ready to be carried out.
type fileRead struct {
	id     uint32
	handle *handle
	offset int64
	length int
	reply  *packet
	done   chan struct{} // closed when the reply is whole
}

// decodeRead prepares a READ; length is cut to what one packet can carry.
func (s *session) decodeRead(id uint32, in *decoder, out *packet) (fileRead, error) {
	n, where, length := in.handle(), in.u64(), in.u32()
	if err := in.err(); err != nil {
		return fileRead{}, err
	}
	h, err := s.handles.file(n)
	if err != nil {
		return fileRead{}, err
	}
	offset, err := fileOffset(where)
	return fileRead{id: id, handle: h, offset: offset, length: int(min(length, maxData)), reply: out}, err
}

// do reads straight into the reply, behind the place of its header.
func (r fileRead) do() error {
	const header = headerSize + 4
	b := r.reply.b[:header+r.length]
	n, err := r.handle.file.ReadAt(b[header:], r.offset)
	if n == 0 && err != nil {
		r.reply.status(r.id, err)
		return err
	}
	r.handle.read.Add(int64(n))
	r.reply.begin(fxpData, r.id)
	r.reply.u32(uint32(n))
	r.reply.b = b[:header+n]
	return nil
}

func (s *session) write(in *decoder, _ *packet) error {
	n, where, data := in.handle(), in.u64(), in.bytes()
	if err := in.err(); err != nil {
		return err
	}
	h, err := s.handles.file(n)
	if err != nil {
		return err
	}
	offset, err := fileOffset(where)
	if err != nil {
		return err
	}
	return h.writeAt(data, offset)
}

// onFile makes a request of what is done to the descriptor of an open file.
func onFile(op func(fd int, out *packet) error) handler {
	return func(s *session, in *decoder, out *packet) error {
		n := in.handle()
		if err := in.err(); err != nil {
			return err
		}
		h, err := s.handles.file(n)
		if err != nil {
			return err
		}
		return onDescriptor(h.file, func(fd int) error { return op(fd, out) })
	}
}

func fstat(fd int, out *packet) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	out.setKind(fxpAttrs)
	out.attrs(statAttrs(&st))
	return nil
}

func (s *session) fsync(in *decoder, _ *packet) error {
	n := in.handle()
	if err := in.err(); err != nil {
		return err
	}
	h, err := s.handles.file(n)
	if err != nil {
		return unix.ENOENT // OpenSSH's answer
	}
	s.say(LogVerbose, "fsync %s", quoted(h.name))
	return onDescriptor(h.file, unix.Fsync)
}

func (s *session) fsetstat(in *decoder, _ *packet) error {
	n, a := in.handle(), in.attrs()
	if err := in.err(); err != nil {
		return err
	}
	h, err := s.handles.file(n)
	if err != nil {
		return err
	}
	s.sayChange(h.name, a)
	return onDescriptor(h.file, func(fd int) error { return a.apply(byDescriptor(fd)) })
}
