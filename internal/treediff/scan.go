package treediff

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// entry is one name in a tree. Content is compared later, file by file.
type entry struct {
	path   string
	stat   unix.Stat_t
	target string            // of a symbolic link
	xattrs map[string]string // all namespaces that the process may see
	leader string            // the first name of the same file in this tree, for files with several
}

func (e entry) kind() string {
	kinds := map[uint32]string{
		unix.S_IFREG: "file", unix.S_IFDIR: "directory", unix.S_IFLNK: "symlink", unix.S_IFIFO: "fifo",
		unix.S_IFSOCK: "socket", unix.S_IFCHR: "character device", unix.S_IFBLK: "block device",
	}
	return kinds[e.stat.Mode&unix.S_IFMT]
}

func (e entry) isRegular() bool { return e.stat.Mode&unix.S_IFMT == unix.S_IFREG }

func (e entry) isDevice() bool {
	kind := e.stat.Mode & unix.S_IFMT
	return kind == unix.S_IFCHR || kind == unix.S_IFBLK
}

// mtime is seconds and nanoseconds, the latter cut to a multiple of granularity.
func (e entry) mtime(granularity int64) string {
	return fmt.Sprintf("%d.%09d", e.stat.Mtim.Sec, e.stat.Mtim.Nsec-e.stat.Mtim.Nsec%granularity)
}

// scan reads everything but content. WalkDir goes in lexical order, so that
// the leader of a hard-link group is the same name in equal trees.
func scan(root string) (map[string]entry, error) {
	type inode struct{ dev, ino uint64 }
	entries, leaders := map[string]entry{}, map[inode]string{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		e, err := read(path)
		if err != nil {
			return fmt.Errorf("%q: %w", path, err)
		}
		if e.stat.Nlink > 1 && e.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			id := inode{e.stat.Dev, e.stat.Ino}
			if _, seen := leaders[id]; !seen {
				leaders[id] = name
			}
			if leaders[id] != name {
				e.leader = leaders[id]
			}
		}
		entries[name] = e
		return nil
	})
	return entries, err
}

func read(path string) (entry, error) {
	e := entry{path: path, xattrs: map[string]string{}}
	if err := unix.Lstat(path, &e.stat); err != nil {
		return e, err
	}
	if e.stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, err := os.Readlink(path)
		if err != nil {
			return e, err
		}
		e.target = target
	}
	buffer := make([]byte, 1<<16) // the kernel's limits, XATTR_LIST_MAX and XATTR_SIZE_MAX
	n, err := unix.Llistxattr(path, buffer)
	if errors.Is(err, unix.ENOTSUP) {
		return e, nil
	}
	if err != nil {
		return e, err
	}
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(buffer[:n]), "\x00"), "\x00") {
		if attr == "" {
			continue
		}
		n, err := unix.Lgetxattr(path, attr, buffer)
		if err != nil {
			return e, fmt.Errorf("%s: %w", attr, err)
		}
		e.xattrs[attr] = string(buffer[:n])
	}
	return e, nil
}

// chunks reads a file in pieces of the same size.
type chunks struct {
	*os.File
	buffer []byte
}

func openChunks(path string) (*chunks, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &chunks{File: f, buffer: make([]byte, 1<<18)}, nil
}

// next is the next piece, empty at the end; it is valid until the next call.
func (c *chunks) next() ([]byte, error) {
	n, err := io.ReadFull(c.File, c.buffer)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return c.buffer[:n], err
}
