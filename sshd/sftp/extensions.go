package sftp

import (
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// An extension is a request of OpenSSH's beyond the draft, described in its
// file PROTOCOL, section 4. Clients use those that the server announces.
type extension struct {
	wire    string // name in the protocol
	version string
	request
}

var extensions = []extension{
	{"posix-rename@openssh.com", "1", request{"posix-rename", true, "rename", onPaths("posix-rename", unix.Rename)}},
	{"statvfs@openssh.com", "2", request{"statvfs", false, "", (*session).statvfs}},
	{"fstatvfs@openssh.com", "2", request{"fstatvfs", false, "", onFile(fstatvfs)}},
	{"hardlink@openssh.com", "1", request{"hardlink", true, "link", onPaths("hardlink", unix.Link)}},
	{"fsync@openssh.com", "1", request{"fsync", true, "", (*session).fsync}},
	{"lsetstat@openssh.com", "1", request{"lsetstat", true, "setstat", (*session).lsetstat}},
	{"limits@openssh.com", "1", request{"limits", false, "", (*session).limits}},
	{"expand-path@openssh.com", "1", request{"expand-path", false, "", (*session).expandPath}},
	{"copy-data", "1", request{"copy-data", true, "copy", (*session).copyData}},
	{"home-directory", "1", request{"home-directory", false, "", (*session).homeOf}},
	{"users-groups-by-id@openssh.com", "1", request{"users-groups-by-id", false, "", (*session).usersGroupsByID}},
}

func (s *session) statvfs(in *decoder, out *packet) error {
	name := in.string()
	if err := in.err(); err != nil {
		return err
	}
	s.say(LogInfo, "statvfs %s", quoted(name))
	path := s.absolute(name)
	var fs unix.Statfs_t
	if err := s.inJail(func() error { return unix.Statfs(path, &fs) }); err != nil {
		return err
	}
	out.statvfs(&fs)
	return nil
}

func fstatvfs(fd int, out *packet) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err
	}
	out.statvfs(&fs)
	return nil
}

// statvfs replies with the fields of statvfs(3), in its order.
func (p *packet) statvfs(fs *unix.Statfs_t) {
	// Of the mount flags the extension has two, with the kernel's numbers.
	const readOnlyNoSetuid = unix.ST_RDONLY | unix.ST_NOSUID
	p.setKind(fxpExtendedReply)
	p.u64(uint64(fs.Bsize))
	p.u64(uint64(fs.Frsize))
	p.u64(fs.Blocks)
	p.u64(fs.Bfree)
	p.u64(fs.Bavail)
	p.u64(fs.Files)
	p.u64(fs.Ffree)
	p.u64(fs.Ffree) // available: Linux does not tell it apart from free
	p.u64(uint64(uint32(fs.Fsid.Val[0])) | uint64(uint32(fs.Fsid.Val[1]))<<32)
	p.u64(uint64(fs.Flags) & readOnlyNoSetuid)
	p.u64(uint64(fs.Namelen))
}

func (s *session) limits(_ *decoder, out *packet) error {
	out.setKind(fxpExtendedReply)
	out.u64(maxPacket)
	out.u64(maxData) // read
	out.u64(maxData) // write
	out.u64(maxHandles)
	return nil
}

// expandPath is realpath with "~" and "~user". The plain tilde is the start
// directory, which OpenSSH too takes for the home directory.
func (s *session) expandPath(in *decoder, out *packet) error {
	path := in.string()
	if err := in.err(); err != nil {
		return err
	}
	if rest, tilde := strings.CutPrefix(path, "~"); tilde {
		user, below, _ := strings.Cut(rest, "/")
		home := s.start
		if user != "" {
			home = s.homeDirectory(user)
		}
		if home == "" {
			return errNoUser
		}
		path = home + "/" + below
	}
	s.say(LogVerbose, "expand %s", quoted(s.absolute(path)))
	return s.replyResolved(path, out)
}

// homeOf replies with the home directory of a user; no name means the user of
// this session.
func (s *session) homeOf(in *decoder, out *packet) error {
	user := in.string()
	if err := in.err(); err != nil {
		return err
	}
	home := s.opts.Home
	if user != "" {
		home = s.homeDirectory(user)
	}
	if home == "" {
		return errors.New("no home directory")
	}
	out.name(home)
	return nil
}

// usersGroupsByID turns two lists of numbers into two lists of names, an empty
// one for each number that has none.
func (s *session) usersGroupsByID(in *decoder, out *packet) error {
	uids, gids := in.bytes(), in.bytes()
	if err := in.err(); err != nil {
		return err
	}
	who := s.readAccounts()
	out.setKind(fxpExtendedReply)
	if !out.names(uids, who.users) || !out.names(gids, who.groups) {
		return unix.EMSGSIZE
	}
	return nil
}

// names appends a string that holds the names of ids. It reports whether they
// fit into the packet.
func (p *packet) names(ids []byte, names map[uint32]string) bool {
	at := len(p.b)
	p.u32(0) // its length, known at the end
	for ; len(ids) >= 4; ids = ids[4:] {
		name := names[binary.BigEndian.Uint32(ids)]
		if len(p.b)+4+len(name) > maxPacket {
			return false
		}
		p.string(name)
	}
	binary.BigEndian.PutUint32(p.b[at:], uint32(len(p.b)-at-4))
	return true
}
