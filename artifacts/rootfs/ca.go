package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// caDir is where programs of the system look for the site's certificates.
const caDir = "etc/cray/ca"

// Bounds on what a certificate folder may hold; a site has one file of a few kilobytes.
const (
	maxCAFiles = 100
	maxCABytes = 1 << 20
)

// CA lends an image root the site's certificates, in etc/cray/ca.
type CA struct {
	Files []CAFile `json:"files"`
	Made  []string `json:"made"` // directories that the root lacks
}

// CAFile is one file that is put into the root.
type CAFile struct {
	Name    string `json:"name"` // in the root
	Content []byte `json:"content"`
	Before  saved  `json:"before"` // what the root has of that name
}

// PlanCA records what Put of the files in the folder from would change. It
// changes nothing in the root. Links in the folder are read as the files that
// they lead to inside it, which is how mounted secrets and config maps look
// (name → ..data/name); names that begin with ".." are their machinery, and
// folders in it are left out.
func PlanCA(r *Root, from string) (CA, error) {
	folder, err := Open(from)
	if err != nil {
		return CA{}, fmt.Errorf("plan site certificates: %w", err)
	}
	defer folder.Close()
	names, err := folder.ReadDir(".")
	if err != nil {
		return CA{}, fmt.Errorf("plan site certificates: %s: %w", from, err)
	}
	var c CA
	room := int64(maxCABytes)
	for _, name := range names {
		if strings.HasPrefix(name, "..") {
			continue
		}
		file, ok, err := planCAFile(r, folder, name, room)
		if err != nil {
			return CA{}, fmt.Errorf("plan site certificates: %s: %w", from, err)
		}
		if !ok {
			continue
		}
		if room -= int64(len(file.Content)); len(c.Files) == maxCAFiles {
			return CA{}, fmt.Errorf("plan site certificates: %s: more than %d files", from, maxCAFiles)
		}
		c.Files = append(c.Files, file)
	}
	c.Made, err = r.missing(caDir)
	if err != nil {
		return CA{}, fmt.Errorf("plan site certificates: %w", err)
	}
	return c, nil
}

// planCAFile reads one file of at most room bytes; ok is false for a folder.
func planCAFile(r, folder *Root, name string, room int64) (file CAFile, ok bool, err error) {
	st, err := folder.Stat(name)
	if err != nil || isDir(st.Mode) {
		return CAFile{}, false, err
	}
	file.Name = caDir + "/" + name
	if file.Content, err = folder.ReadFile(name, room); err != nil {
		return CAFile{}, false, err
	}
	file.Before, err = save(r, file.Name)
	if err == nil && !file.Before.absent() && !file.Before.Whole {
		err = fmt.Errorf("%q: something else than a small file or link is in the way in the image", file.Name)
	}
	return file, err == nil, err
}

// Put writes the files. Those that the root has already, with the same
// content, it leaves alone. Once done, it does nothing when called again.
func (c CA) Put(r *Root) error {
	if err := r.MkdirAll(caDir, 0o755); err != nil {
		return err
	}
	for _, file := range c.Files {
		same, err := holds(r, file.Name, file.Content)
		if err == nil && !same {
			err = r.WriteFile(file.Name, bytes.NewReader(file.Content), Meta{Mode: 0o644, Mtime: Now})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Restore puts back what the root had before, except where the user has
// changed or removed a file since: that stays as the user left it. Once done,
// it does nothing when called again.
func (c CA) Restore(r *Root) error {
	var failed []error
	for _, file := range c.Files {
		if file.Before.Mode&unix.S_IFMT == unix.S_IFREG && bytes.Equal(file.Before.Content, file.Content) {
			continue // it was there, and Put left it alone
		}
		ours, err := holds(r, file.Name, file.Content)
		if err == nil && ours {
			err = file.Before.recreate(r, file.Name)
		}
		failed = append(failed, err)
	}
	failed = append(failed, removeEmpty(r, c.Made))
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("restore site certificates: %w", err)
	}
	return nil
}
