package sftp

import (
	"errors"

	"golang.org/x/sys/unix"

	"buildenv/internal/wording"
)

// absolute is a path of the client's, seen from the start directory. It is
// not cleaned, for "link/.." is the kernel's to resolve. An empty path stays
// empty: the kernel answers that there is no such file.
func (s *session) absolute(path string) string {
	if path == "" || path[0] == '/' {
		return path
	}
	return s.start + "/" + path
}

// inJail runs op on the jail's thread, with the session's umask if it has one.
// Umask and root belong to that thread alone.
func (s *session) inJail(op func() error) error {
	return s.jail.Do(func() error {
		if s.opts.Umask != nil {
			defer unix.Umask(unix.Umask(*s.opts.Umask))
		}
		return op()
	})
}

// onPath makes a request of what is done to one path.
func onPath(word string, op func(path string) error) handler {
	return func(s *session, in *decoder, _ *packet) error {
		name := in.string()
		if err := in.err(); err != nil {
			return err
		}
		s.say(LogInfo, "%s name %s", word, quoted(name))
		s.note("path", s.audited(name))
		path := s.absolute(name)
		return s.inJail(func() error { return op(path) })
	}
}

// onPaths makes a request of what is done to two paths, old and new.
func onPaths(word string, op func(from, to string) error) handler {
	return func(s *session, in *decoder, _ *packet) error {
		from, to := in.string(), in.string()
		if err := in.err(); err != nil {
			return err
		}
		s.say(LogInfo, "%s old %s new %s", word, quoted(from), quoted(to))
		s.note("path", s.audited(from), "to", s.audited(to))
		from, to = s.absolute(from), s.absolute(to)
		return s.inJail(func() error { return op(from, to) })
	}
}

// statPath makes STAT or LSTAT of the system call.
func statPath(word string, stat func(string, *unix.Stat_t) error) handler {
	return func(s *session, in *decoder, out *packet) error {
		name := in.string()
		if err := in.err(); err != nil {
			return err
		}
		s.say(LogVerbose, "%s name %s", word, quoted(name))
		path := s.absolute(name)
		var st unix.Stat_t
		if err := s.inJail(func() error { return stat(path, &st) }); err != nil {
			return err
		}
		out.setKind(fxpAttrs)
		out.attrs(statAttrs(&st))
		return nil
	}
}

// rename is the rename of protocol version 3, which must not replace a file.
func rename(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return renameByLink(from, to)
	}
	return err
}

// renameByLink is for file systems without RENAME_NOREPLACE, such as NFS and
// CephFS. Making a link to a regular file fails if the new name is taken; for
// all else, and where there are no hard links, looking first has to do.
func renameByLink(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		switch err := unix.Link(from, to); {
		case err == nil:
			if err = unix.Unlink(from); err != nil {
				unix.Unlink(to) // as it was before
			}
			return err
		case !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS):
			return err
		}
	}
	if unix.Lstat(to, &st) == nil {
		return unix.EEXIST
	}
	return unix.Rename(from, to)
}

func (s *session) mkdir(in *decoder, _ *packet) error {
	name, a := in.string(), in.attrs()
	if err := in.err(); err != nil {
		return err
	}
	path, mode := s.absolute(name), a.permissions(0o777)
	s.say(LogInfo, "mkdir name %s mode 0%o", quoted(name), mode)
	s.note("path", s.audited(name), "mode", octal(mode))
	return s.inJail(func() error { return unix.Mkdir(path, mode) })
}

// symlink takes the target first, as OpenSSH's client sends it; the draft has
// it the other way round, and OpenSSH's order has become the standard one. The
// target is stored as it is: it may be relative to the link, or not exist.
func (s *session) symlink(in *decoder, _ *packet) error {
	target, name := in.string(), in.string()
	if err := in.err(); err != nil {
		return err
	}
	s.say(LogInfo, "symlink old %s new %s", quoted(target), quoted(name))
	s.note("path", s.audited(name), "target", wording.UTF8(target))
	link := s.absolute(name)
	return s.inJail(func() error { return unix.Symlink(target, link) })
}

func (s *session) readlink(in *decoder, out *packet) error {
	name := in.string()
	if err := in.err(); err != nil {
		return err
	}
	s.say(LogVerbose, "readlink %s", quoted(name))
	path := s.absolute(name)
	var target string
	err := s.inJail(func() (err error) {
		target, err = readlink(path)
		return err
	})
	if err != nil {
		return err
	}
	out.name(target)
	return nil
}

func (s *session) setstat(in *decoder, _ *packet) error {
	name, a := in.string(), in.attrs()
	if err := in.err(); err != nil {
		return err
	}
	s.sayChange(name, a)
	path := s.absolute(name)
	return s.inJail(func() error { return a.apply(byPath(path, 0)) })
}

// lsetstat is setstat for the link itself, extension lsetstat@openssh.com.
func (s *session) lsetstat(in *decoder, _ *packet) error {
	name, a := in.string(), in.attrs()
	if err := in.err(); err != nil {
		return err
	}
	s.sayChange(name, a)
	path := s.absolute(name)
	if a.flags&attrSize != 0 {
		return unix.EINVAL // a link has no size to set
	}
	return s.inJail(func() error { return a.apply(byPath(path, unix.AT_SYMLINK_NOFOLLOW)) })
}

// name makes p the reply with one path and no attributes.
func (p *packet) name(path string) {
	p.setKind(fxpName)
	p.u32(1)
	p.string(path)
	p.string(path)
	p.attrs(attrs{})
}
