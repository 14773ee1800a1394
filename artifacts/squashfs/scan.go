package squashfs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// node is a name in the root that is packed.
type node struct {
	name     string
	parent   *node
	children []*node // sorted by name

	kind     uint16 // basic type
	mode     uint16 // permissions
	uid, gid uint32
	mtime    uint32 // seconds since 1970, as far as the format goes
	device   uint32
	target   string       // of a symbolic link
	xattrs   uint32       // index of a set, noXattr for none
	links    uint32       // names of the same file in this root
	same     *node        // the first of these names, nil for that itself
	stamp    stamp        // of a regular file
	content  layout       // of a regular file, once it is stored
	base     *counterpart // of a regular file, in the archive that is reused; nil for none
	lower    bool         // the root is an overlay, and this is the archive's own

	number uint32
	ref    ref
	stored bool // ref is there
}

// stamp is what changes when a file does.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func (n *node) path() string {
	if n.parent == nil {
		return "."
	}
	return join(n.parent.path(), n.name)
}

// original is the node whose inode this name has.
func (n *node) original() *node {
	if n.same != nil {
		return n.same
	}
	return n
}

// scan looks at everything below a root. Links are not followed, and what is
// mounted below is left out: of a directory only the content, for an image
// without /proc does not start.
type scan struct {
	ctx     context.Context
	mount   uint64 // the root's
	overlay bool   // that is what the root is
	upper   upper  // of the directory that is scanned
	clamp   int64  // latest time, in seconds
	exclude []string
	log     func(message, path string, args ...any)
	files   map[fileID]*node // with several names
	xattrs  xattrSets
	latest  uint32 // time
	count   int
	buffer  []byte
}

type fileID struct{ dev, ino uint64 }

const statMask = unix.STATX_BASIC_STATS | unix.STATX_MNT_ID

// mountOf tells mounts apart. Kernels before 5.8 have no number for them: then
// those that show other devices.
func mountOf(st unix.Statx_t) uint64 {
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return unix.Mkdev(st.Dev_major, st.Dev_minor)
	}
	return st.Mnt_id
}

// tree scans the directory that is open as fd.
func (s *scan) tree(fd int) (*node, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, statMask, &st); err != nil {
		return nil, os.NewSyscallError("stat", err)
	}
	s.mount, s.buffer, s.files = mountOf(st), make([]byte, maxXattrValue), map[fileID]*node{}
	root := &node{}
	if err := s.describe(root, fd, ".", st, st); err != nil {
		return nil, err
	}
	return root, s.directory(root, fd)
}

func (s *scan) directory(dir *node, fd int) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	names, err := readNames(fd)
	if err != nil {
		return fmt.Errorf("%s: %w", dir.path(), err)
	}
	dir.children = make([]*node, 0, len(names))
	for _, name := range names {
		n := &node{name: name, parent: dir}
		if err := s.entry(n, fd); err != nil {
			return fmt.Errorf("%s: %w", n.path(), err)
		}
	}
	for _, n := range dir.children {
		if n.kind == typeDirectory && n.children == nil {
			if err := s.enter(n, fd); err != nil {
				return err
			}
		}
	}
	return nil
}

// noChildren marks a directory that is not entered.
var noChildren = []*node{}

func (s *scan) enter(n *node, at int) error {
	fd, err := unix.Openat(at, n.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", n.path(), os.NewSyscallError("open", err))
	}
	defer unix.Close(fd)
	above := s.upper
	defer func() { s.upper = above }()
	if s.upper, err = above.enter(n.name); err != nil {
		return fmt.Errorf("%s: %w", n.path(), err)
	}
	if s.upper.fd >= 0 {
		defer unix.Close(s.upper.fd)
	}
	return s.directory(n, fd)
}

func (s *scan) entry(n *node, at int) error {
	if s.excluded(n) {
		return nil
	}
	var st unix.Statx_t
	if err := unix.Statx(at, n.name, unix.AT_SYMLINK_NOFOLLOW, statMask, &st); err != nil {
		return os.NewSyscallError("stat", err)
	}
	mounted := mountOf(st) != s.mount
	if mounted {
		s.log("not packed: another file system is mounted there", n.path())
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil
		}
	}
	lower, identity, err := s.upper.look(n.name)
	if err != nil {
		return err
	}
	if n.lower = lower; identity.Mask == 0 {
		identity = st
	}
	if err := s.describe(n, at, n.name, st, identity); err != nil {
		return err
	}
	if mounted {
		n.children = noChildren
	}
	n.parent.children = append(n.parent.children, n)
	s.count++
	return nil
}

// excluded tells whether a path is named by --exclude, or is in what is.
func (s *scan) excluded(n *node) bool {
	return len(s.exclude) > 0 && slices.Contains(s.exclude, n.path())
}

// describe fills a node by what statx(2) says, and asks for what it does not.
// identity says which file it is; an overlay does not know.
func (s *scan) describe(n *node, at int, name string, st, identity unix.Statx_t) (err error) {
	if n.kind = typeOf(uint32(st.Mode)); n.kind == 0 {
		return fmt.Errorf("a file of type %#o", st.Mode&unix.S_IFMT)
	}
	n.mode, n.uid, n.gid, n.links = st.Mode&0o7777, st.Uid, st.Gid, 1
	n.mtime = uint32(max(0, min(st.Mtime.Sec, s.clamp, math.MaxUint32)))
	s.latest = max(s.latest, n.mtime)
	switch n.kind {
	case typeSymlink:
		if n.target, err = readLink(at, name); err != nil {
			return err
		}
	case typeBlock, typeChar:
		n.device = encodeDevice(unix.Mkdev(st.Rdev_major, st.Rdev_minor))
	case typeFile:
		n.stamp = stampOf(st)
	}
	if n.kind != typeDirectory && identity.Nlink > 1 && s.knows(n, identity) {
		return nil
	}
	n.xattrs, err = s.attributes(n, at, name)
	return err
}

// knows tells whether a file has been seen under another name.
func (s *scan) knows(n *node, st unix.Statx_t) bool {
	id := fileID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
	first, ok := s.files[id]
	if !ok {
		s.files[id] = n
		return false
	}
	n.same = first
	first.links++
	return true
}

func stampOf(st unix.Statx_t) stamp {
	return stamp{
		dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino, size: int64(st.Size),
		mtime: unix.Timespec{Sec: st.Mtime.Sec, Nsec: int64(st.Mtime.Nsec)},
		ctime: unix.Timespec{Sec: st.Ctime.Sec, Nsec: int64(st.Ctime.Nsec)},
	}
}

// readNames lists a directory, sorted as the format wants it: by bytes.
func readNames(fd int) ([]string, error) {
	again, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	f := os.NewFile(uintptr(again), "")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func readLink(at int, name string) (string, error) {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(at, name, buffer)
	return string(buffer[:max(0, n)]), os.NewSyscallError("readlink", err)
}

// attributes reads a file's extended attributes and returns their set.
func (s *scan) attributes(n *node, at int, name string) (uint32, error) {
	list, lost, err := readAttributes(at, name, s.buffer, s.overlay)
	if len(lost) > 0 {
		s.log(lostMessage, n.path(), "attributes", strings.Join(lost, " "))
	}
	if err != nil {
		return 0, err
	}
	return s.xattrs.add(list), nil
}

// lostMessage tells of attributes that are lost.
const lostMessage = "not packed: attributes that the archive cannot hold"

// overlayPrefix begins the names of attributes that mean something to an overlay
// when they are in a layer of it. Linux 6.7 lets users of an overlay set some, too.
const overlayPrefix = "trusted.overlay."

// readAttributes reads a file's extended attributes. Those are lost that the
// format cannot hold, and in an overlay those that are meant for overlays: in the
// next root, an overlay on the archive, they would hide files. buffer is of
// maxXattrValue bytes.
func readAttributes(at int, name string, buffer []byte, overlay bool) (list []Xattr, lost []string, err error) {
	size, err := listXattr(at, name, buffer)
	if errors.Is(err, unix.ENOTSUP) || size == 0 && err == nil {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, os.NewSyscallError("list attributes", err)
	}
	for full := range strings.SplitSeq(strings.TrimSuffix(string(buffer[:size]), "\x00"), "\x00") {
		if _, _, ok := splitXattr(full); !ok || overlay && strings.HasPrefix(full, overlayPrefix) {
			lost = append(lost, full)
			continue
		}
		length, err := unix.Lgetxattr(throughProc(at, name), full, buffer)
		if err != nil {
			return nil, lost, fmt.Errorf("read attribute %q: %w", full, err)
		}
		list = append(list, Xattr{full, slices.Clone(buffer[:length])})
	}
	return list, lost, nil
}
