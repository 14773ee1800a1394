package sftp

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Flags that say which attributes are present,
// draft-ietf-secsh-filexfer-02 section 5.
const (
	attrSize     = 1 << 0
	attrOwner    = 1 << 1
	attrMode     = 1 << 2
	attrTimes    = 1 << 3
	attrExtended = 1 << 31
)

// permissionBits are the part of a mode that chmod(2) changes. Clients also
// send the type bits, as stat gave them.
const permissionBits = 0o7777

// attrs are the attributes of a file. Only those named in flags are set.
type attrs struct {
	flags        uint32
	size         uint64
	uid, gid     uint32
	mode         uint32
	atime, mtime uint32 // seconds since 1970
}

func statAttrs(st *unix.Stat_t) attrs {
	return attrs{
		flags: attrSize | attrOwner | attrMode | attrTimes,
		size:  uint64(st.Size),
		uid:   st.Uid,
		gid:   st.Gid,
		mode:  st.Mode,
		atime: uint32(st.Atim.Sec),
		mtime: uint32(st.Mtim.Sec),
	}
}

// attrs decodes attributes and skips extended ones, which nobody defined.
func (d *decoder) attrs() attrs {
	a := attrs{flags: d.u32()}
	if a.flags&attrSize != 0 {
		a.size = d.u64()
	}
	if a.flags&attrOwner != 0 {
		a.uid, a.gid = d.u32(), d.u32()
	}
	if a.flags&attrMode != 0 {
		a.mode = d.u32()
	}
	if a.flags&attrTimes != 0 {
		a.atime, a.mtime = d.u32(), d.u32()
	}
	if a.flags&attrExtended != 0 {
		for n := d.u32(); n > 0 && !d.short; n-- {
			d.bytes()
			d.bytes()
		}
	}
	return a
}

func (p *packet) attrs(a attrs) {
	p.u32(a.flags)
	if a.flags&attrSize != 0 {
		p.u64(a.size)
	}
	if a.flags&attrOwner != 0 {
		p.u32(a.uid)
		p.u32(a.gid)
	}
	if a.flags&attrMode != 0 {
		p.u32(a.mode)
	}
	if a.flags&attrTimes != 0 {
		p.u32(a.atime)
		p.u32(a.mtime)
	}
}

// permissions are the mode for a new file: what the client asked for, or else
// the default. The umask applies to both.
func (a attrs) permissions(otherwise uint32) uint32 {
	if a.flags&attrMode == 0 {
		return otherwise
	}
	return a.mode & permissionBits
}

// A changer changes the attributes of one file: by its path, by its own name
// if it is a link, or by its descriptor.
type changer struct {
	truncate func(size int64) error
	chown    func(uid, gid int) error
	chmod    func(mode uint32) error
	utimes   func(atime, mtime int64) error
}

// apply makes every change that a asks for, even after one has failed, and
// reports the last failure, as OpenSSH does. The order is not OpenSSH's: chown
// clears the set-user-ID bit, so the mode comes after it, or a program copied
// with its owner and mode would lose the bit.
func (a attrs) apply(c changer) error {
	var err error
	note := func(e error) {
		if e != nil {
			err = e
		}
	}
	if a.flags&attrSize != 0 {
		note(c.truncate(int64(a.size)))
	}
	if a.flags&attrOwner != 0 {
		note(c.chown(ownerID(a.uid), ownerID(a.gid)))
	}
	if a.flags&attrMode != 0 {
		note(c.chmod(a.mode & permissionBits))
	}
	if a.flags&attrTimes != 0 {
		note(c.utimes(int64(a.atime), int64(a.mtime)))
	}
	return err
}

// ownerID keeps the meaning of "leave it" that chown(2) gives to -1.
func ownerID(id uint32) int { return int(int32(id)) }

// byPath changes the file that a path leads to, or with AT_SYMLINK_NOFOLLOW
// the link itself. Its calls belong inside the jail.
func byPath(path string, flags int) changer {
	return changer{
		truncate: func(size int64) error { return unix.Truncate(path, size) },
		chown:    func(uid, gid int) error { return unix.Fchownat(unix.AT_FDCWD, path, uid, gid, flags) },
		chmod:    func(mode uint32) error { return unix.Fchmodat(unix.AT_FDCWD, path, mode, flags) },
		utimes: func(atime, mtime int64) error {
			times := []unix.Timespec{unix.NsecToTimespec(atime * 1e9), unix.NsecToTimespec(mtime * 1e9)}
			return unix.UtimesNanoAt(unix.AT_FDCWD, path, times, flags)
		},
	}
}

// byDescriptor changes an open file.
func byDescriptor(fd int) changer {
	return changer{
		truncate: func(size int64) error { return unix.Ftruncate(fd, size) },
		chown:    func(uid, gid int) error { return unix.Fchown(fd, uid, gid) },
		chmod:    func(mode uint32) error { return unix.Fchmod(fd, mode) },
		utimes: func(atime, mtime int64) error {
			return unix.Futimes(fd, []unix.Timeval{unix.NsecToTimeval(atime * 1e9), unix.NsecToTimeval(mtime * 1e9)})
		},
	}
}

// sayChange logs and notes what a setstat asks for.
func (s *session) sayChange(name string, a attrs) {
	note := []any{"path", s.audited(name)}
	if a.flags&attrSize != 0 {
		s.say(LogInfo, "set %s size %d", quoted(name), a.size)
		note = append(note, "size", a.size)
	}
	if a.flags&attrMode != 0 {
		s.say(LogInfo, "set %s mode %04o", quoted(name), a.mode)
		note = append(note, "mode", octal(a.mode&permissionBits))
	}
	if a.flags&attrTimes != 0 {
		modified := time.Unix(int64(a.mtime), 0)
		s.say(LogInfo, "set %s modtime %s", quoted(name), modified.Format("20060102-15:04:05"))
		note = append(note, "modified", modified.UTC().Format(time.RFC3339))
	}
	if a.flags&attrOwner != 0 {
		s.say(LogInfo, "set %s owner %d group %d", quoted(name), a.uid, a.gid)
		note = append(note, "uid", a.uid, "gid", a.gid)
	}
	s.note(note...)
}

func octal(mode uint32) string { return fmt.Sprintf("%04o", mode) }
