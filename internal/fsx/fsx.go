// Package fsx writes files so that nobody ever reads half of one, and opens
// files of others so that nobody is made to wait.
package fsx

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Pending is a file under a temporary name beside its final one.
// Use it as a file, then Commit; Discard is safe at any time.
type Pending struct {
	*os.File
	name      string
	committed bool
}

// Create starts a file that will be called name once it is committed.
// Its mode is set as given, whatever the umask.
func Create(name string, mode os.FileMode) (*Pending, error) {
	f, err := os.CreateTemp(filepath.Dir(name), temporary(name)+"*")
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	p := &Pending{File: f, name: name}
	if err := f.Chmod(mode); err != nil {
		p.Discard()
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	return p, nil
}

// temporary begins the temporary names of a file.
func temporary(name string) string { return "." + filepath.Base(name) + ".tmp-" }

// RemoveLeft removes what killed processes have left under temporary names of a
// file. Nobody may be writing it.
func RemoveLeft(name string) error {
	dir := filepath.Dir(name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), temporary(name)) || !e.Type().IsRegular() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Commit makes the content durable, then visible: fsync, rename, fsync of the directory.
func (p *Pending) Commit() error {
	err := p.Sync()
	if closeErr := p.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(p.Name(), p.name)
	}
	if err != nil {
		p.Discard()
		return fmt.Errorf("write %s: %w", p.name, err)
	}
	p.committed = true
	return SyncDir(filepath.Dir(p.name))
}

// Discard removes the temporary file unless it has been committed.
func (p *Pending) Discard() {
	if p.committed {
		return
	}
	p.Close()
	os.Remove(p.Name())
}

// WriteFile replaces name by data: readers see the old content or the new.
func WriteFile(name string, data []byte, mode os.FileMode) error {
	p, err := Create(name, mode)
	if err != nil {
		return err
	}
	defer p.Discard()
	if _, err := p.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return p.Commit()
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// OpenRegular opens a regular file to read. Anything else, a FIFO for one,
// could make the caller wait.
func OpenRegular(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Outside is an error if an open file lies below the directory dir, or is it,
// whatever links led to it.
func Outside(f *os.File, dir string) error {
	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	if rel, err := filepath.Rel(dir, real); err != nil || rel != ".." && !strings.HasPrefix(rel, "../") {
		return fmt.Errorf("%s lies inside %s", real, dir)
	}
	return nil
}
