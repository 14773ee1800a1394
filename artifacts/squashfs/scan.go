package squashfs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"

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
	found   []found // in the directory that is scanned
	buffers [lookers][]byte
}

// found is a name in a directory and what the kernel says of it. Many names of a
// directory are looked at side by side; what is made of them, in their order.
type found struct {
	st       unix.Statx_t
	lower    bool         // what is found is the archive's own, in an overlay
	identity unix.Statx_t // which file it is; an overlay does not know
	target   string       // of a symbolic link
	xattrs   []Xattr
	lost     []string // attributes that cannot be kept
	err      error
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
	s.mount, s.files = mountOf(st), map[fileID]*node{}
	for i := range s.buffers {
		s.buffers[i] = make([]byte, maxXattrValue)
	}
	root := &node{}
	if err := s.describe(root, s.ask(fd, ".", found{st: st, identity: st}, s.buffers[0])); err != nil {
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
	for part := range slices.Chunk(names, lookAhead) {
		for i, f := range s.lookAt(dir, fd, part) {
			n := &node{name: part[i], parent: dir}
			if err := s.entry(n, f); err != nil {
				return fmt.Errorf("%s: %w", n.path(), err)
			}
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

// Of so many names of a directory the findings are kept at a time, and so many
// goroutines look, each at so many names at least: fewer are not worth their start.
const (
	lookAhead = 256
	lookers   = 2
	lookLeast = 16
)

// lookAt looks at names of a directory.
func (s *scan) lookAt(dir *node, fd int, names []string) []found {
	s.found = slices.Grow(s.found[:0], len(names))[:len(names)]
	share := max(lookLeast, (len(names)+lookers-1)/lookers)
	var others sync.WaitGroup
	for i, from := 0, 0; from < len(names); i, from = i+1, from+share {
		look := func(to int) {
			for n, name := range names[from:to] {
				s.found[from+n] = s.look(dir, fd, name, s.buffers[i])
			}
		}
		if from+share < len(names) {
			others.Go(func() { look(from + share) })
		} else {
			look(len(names)) // somebody has to wait for the others anyway
		}
	}
	others.Wait()
	return s.found
}

// look asks the kernel about a name. Where another file system is mounted it asks
// no further than for its type, unless that is a directory.
func (s *scan) look(dir *node, at int, name string, buffer []byte) (f found) {
	if s.excluded(dir, name) {
		return f
	}
	if f.err = unix.Statx(at, name, unix.AT_SYMLINK_NOFOLLOW, statMask, &f.st); f.err != nil {
		f.err = os.NewSyscallError("stat", f.err)
		return f
	}
	if mountOf(f.st) != s.mount && f.st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return f
	}
	if f.lower, f.identity, f.err = s.upper.look(name); f.err != nil {
		return f
	}
	if f.identity.Mask == 0 {
		f.identity = f.st
	}
	return s.ask(at, name, f, buffer)
}

// ask asks for what statx(2) does not say.
func (s *scan) ask(at int, name string, f found, buffer []byte) found {
	if f.st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if f.target, f.err = readLink(at, name); f.err != nil {
			return f
		}
	}
	f.xattrs, f.lost, f.err = readAttributes(at, name, buffer, s.overlay)
	return f
}

// entry makes a node of what has been found, or leaves it out.
func (s *scan) entry(n *node, f found) error {
	if f.err != nil {
		return f.err
	}
	if f.st.Mask == 0 { // excluded
		return nil
	}
	mounted := mountOf(f.st) != s.mount
	if mounted {
		s.log("not packed: another file system is mounted there", n.path())
		if f.st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil
		}
	}
	n.lower = f.lower
	if err := s.describe(n, f); err != nil {
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
func (s *scan) excluded(dir *node, name string) bool {
	return len(s.exclude) > 0 && slices.Contains(s.exclude, join(dir.path(), name))
}

// describe fills a node by what has been found.
func (s *scan) describe(n *node, f found) error {
	if f.err != nil {
		return f.err
	}
	st := &f.st
	if n.kind = typeOf(uint32(st.Mode)); n.kind == 0 {
		return fmt.Errorf("a file of type %#o", st.Mode&unix.S_IFMT)
	}
	n.mode, n.uid, n.gid, n.links = st.Mode&0o7777, st.Uid, st.Gid, 1
	n.mtime = uint32(max(0, min(st.Mtime.Sec, s.clamp, math.MaxUint32)))
	s.latest = max(s.latest, n.mtime)
	switch n.kind {
	case typeSymlink:
		n.target = f.target
	case typeBlock, typeChar:
		n.device = encodeDevice(unix.Mkdev(st.Rdev_major, st.Rdev_minor))
	case typeFile:
		n.stamp = stampOf(*st)
	}
	if n.kind != typeDirectory && f.identity.Nlink > 1 && s.knows(n, f.identity) {
		return nil
	}
	if len(f.lost) > 0 {
		s.log(lostMessage, n.path(), "attributes", strings.Join(f.lost, " "))
	}
	n.xattrs = s.xattrs.add(f.xattrs)
	return nil
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
