package squashfs

import (
	"slices"

	"golang.org/x/sys/unix"
)

// folders keeps open the directories on the way to the file that is read.
type folders struct {
	root int // descriptor
	path []folderOnPath
}

type folderOnPath struct {
	node *node
	fd   int
}

// open opens a directory of the tree, by the descriptors of those above it. It
// stays open until another one is asked for.
func (f *folders) open(n *node) (int, error) {
	if n.parent == nil {
		return f.root, nil
	}
	if i := slices.IndexFunc(f.path, func(p folderOnPath) bool { return p.node == n }); i >= 0 {
		f.cut(i + 1)
		return f.path[i].fd, nil
	}
	above, err := f.open(n.parent)
	if err != nil {
		return -1, err
	}
	if n.parent.parent == nil {
		f.cut(0)
	}
	fd, err := openFolder(above, n.name)
	if err != nil {
		return -1, err
	}
	f.path = append(f.path, folderOnPath{n, fd})
	return fd, nil
}

// cut closes all but the first n.
func (f *folders) cut(n int) {
	for _, p := range f.path[n:] {
		unix.Close(p.fd)
	}
	f.path = f.path[:n]
}

func (f *folders) close() { f.cut(0) }
