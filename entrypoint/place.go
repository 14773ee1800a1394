package entrypoint

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"buildenv/agent/marker"
	"buildenv/artifacts/rootfs"
)

// jailedPlace is where users in a jail leave their markers: /tmp of the image
// root, which they may have made into anything. Every look stays inside the root.
type jailedPlace string

// tmp is where it lies inside the root.
const tmp = "tmp"

// with opens the root for one look: it may have been replaced since the last.
func (p jailedPlace) with(do func(*rootfs.Root) error) error {
	root, err := rootfs.Open(string(p))
	if err != nil {
		return err
	}
	defer root.Close()
	return do(root)
}

// Path is the directory that /tmp leads to inside the root, for watching.
func (p jailedPlace) Path() string {
	path := filepath.Join(string(p), tmp)
	p.with(func(root *rootfs.Root) error {
		dir, err := root.Open(tmp)
		if err != nil {
			return err
		}
		defer dir.Close()
		if real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd())); err == nil {
			path = real
		}
		return nil
	})
	return path
}

// Find looks for a regular file.
func (p jailedPlace) Find(name string) (modified time.Time, ok bool) {
	p.with(func(root *rootfs.Root) error {
		st, err := root.Lstat(tmp + "/" + name)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			modified, ok = time.Unix(st.Mtim.Unix()), true
		}
		return nil
	})
	return modified, ok
}

// clearMarkers removes the users' markers from a root: they would end the session
// of whoever changes the image next.
func clearMarkers(root *rootfs.Root) error {
	for _, name := range []marker.Name{marker.Complete, marker.Failed} {
		path := tmp + "/" + string(name)
		st, err := root.Lstat(path)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue // nothing that counts as a marker
		}
		if err := root.Remove(path); err != nil {
			return fmt.Errorf("remove marker: %w", err)
		}
	}
	return nil
}

// Create makes an empty file, replacing what is in its way. A directory, which
// no file can replace, gets another name: it may hold somebody's work. A root
// without /tmp gets one, or the sidecar would not learn that a job has failed.
func (p jailedPlace) Create(name string) error {
	path := tmp + "/" + name
	return p.with(func(root *rootfs.Root) error {
		if err := root.MkdirAll(tmp, 0o1777); err != nil {
			return err
		}
		err := writeMarker(root, path)
		if errors.Is(err, unix.EISDIR) {
			err = errors.Join(root.Rename(path, path+"-"+rand.Text()), writeMarker(root, path))
		}
		return err
	})
}

func writeMarker(root *rootfs.Root, path string) error {
	return root.WriteFile(path, strings.NewReader(""), rootfs.Meta{Mode: 0o644, Mtime: rootfs.Now})
}

// Remove removes a file.
func (p jailedPlace) Remove(name string) error {
	return p.with(func(root *rootfs.Root) error { return root.Remove(tmp + "/" + name) })
}
