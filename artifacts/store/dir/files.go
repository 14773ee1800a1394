package dir

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// pending is a file under a temporary name in the folder.
type pending struct {
	*os.File
	root *os.Root
	name string
}

// newPrefix begins the temporary name of a file.
const newPrefix = ".new-"

func newName() string { return newPrefix + rand.Text() }

func create(root *os.Root) (*pending, error) {
	name := newName()
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	return &pending{f, root, name}, nil
}

// discard closes the file and removes its temporary name, if it still has it.
func (p *pending) discard() {
	p.Close()
	p.root.Remove(p.name)
}

// stage is a pending file with durable content.
func stage(root *os.Root, data []byte) (*pending, error) {
	p, err := create(root)
	if err != nil {
		return nil, err
	}
	_, err = p.Write(data)
	if err == nil {
		err = p.Sync()
	}
	if err != nil {
		p.discard()
		return nil, err
	}
	return p, nil
}

// commit gives the file its name, which may be another file's until now, and
// makes the name durable. The folders on the way are made.
func (p *pending) commit(name string) error {
	if err := p.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := p.root.Rename(p.name, name); err != nil {
		prune(p.root, path.Dir(name))
		return err
	}
	return syncUp(p.root, path.Dir(name))
}

// writeFile replaces name by data.
func writeFile(root *os.Root, name string, data []byte) error {
	p, err := stage(root, data)
	if err != nil {
		return err
	}
	defer p.discard()
	return p.commit(name)
}

// syncUp makes names durable in dir and in all folders above it, which may be new.
func syncUp(root *os.Root, dir string) error {
	for ; ; dir = path.Dir(dir) {
		d, err := root.Open(dir)
		if err != nil {
			return err
		}
		err = d.Sync()
		d.Close()
		if err != nil || dir == "." {
			return err
		}
	}
}

// prune removes dir and folders above it as far as they are empty, but never a
// bucket. Root.Remove would remove a file as well.
func prune(root *os.Root, dir string) {
	for ; path.Dir(dir) != "."; dir = path.Dir(dir) {
		info, err := root.Lstat(dir)
		if err != nil || !info.IsDir() || root.Remove(dir) != nil {
			return
		}
	}
}

// remove removes a file; one that is not there, or is a folder, is no error.
func remove(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if err == nil && !info.IsDir() {
		err = root.Remove(name)
	}
	if absent(err) {
		return nil
	}
	return err
}

// absent tells whether a name does not exist, also because a file stands where
// the name has a folder.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}
