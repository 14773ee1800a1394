// Package marker is the protocol by which the parts of a job tell each other
// how far they are: empty regular files with fixed names, made and waited for.
//
// A marker is a regular file, looked at without following links; a directory,
// a link or a fifo of that name is no marker, whoever put it there. Creating
// one is atomic. Waiting is driven by inotify(7), and by a look every second
// beside it, because network and virtio file systems may deliver no events:
// an event is only ever a hint to look again.
package marker

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Name is the file name of a marker.
type Name string

// The markers of a job; docs/protocol.md says who writes and who reads each.
const (
	Ready       Name = "ready"
	Complete    Name = "complete"
	Failed      Name = "failed"
	Exiting     Name = "exiting"
	BuildFailed Name = "build_failed"
)

// Place is a directory that holds markers.
type Place interface {
	// Path is where the directory is at this moment, for watching and for messages.
	Path() string
	// Find tells when the regular file of that name was last modified; false when
	// there is none, or something else of that name.
	Find(name string) (modified time.Time, ok bool)
	// Create makes an empty regular file, or gives the one that is there a new
	// time; anything else of that name is replaced, or renamed when it is a directory.
	Create(name string) error
	// Remove removes a file; its absence is an error that is fs.ErrNotExist.
	Remove(name string) error
}

// Exists tells whether place holds the marker.
func Exists(place Place, name Name) bool {
	_, ok := place.Find(string(name))
	return ok
}

// Remove removes a marker; one that is not there is no error.
func Remove(place Place, name Name) error {
	err := place.Remove(string(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Directory is a Place on the file system: a directory that no hostile hand
// writes to. Markers inside an image root need a Place that stays inside it.
type Directory string

// Path is the directory itself.
func (d Directory) Path() string { return string(d) }

// Find looks for a regular file in the directory.
func (d Directory) Find(name string) (time.Time, bool) {
	info, err := os.Lstat(filepath.Join(string(d), name))
	if err != nil || !info.Mode().IsRegular() {
		return time.Time{}, false
	}
	return info.ModTime(), true
}

// Remove removes a file from the directory.
func (d Directory) Remove(name string) error {
	return os.Remove(filepath.Join(string(d), name))
}

// Create makes a marker. A marker has no content, so that O_EXCL alone makes it
// atomic; only what is in its way is replaced by renaming. A directory in its
// way, which no file can replace, gets another name: it may hold somebody's work.
func (d Directory) Create(name string) error {
	path := filepath.Join(string(d), name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, ok := d.Find(name); ok {
		now := time.Now()
		return os.Chtimes(path, now, now)
	}
	return d.replace(path)
}

func (d Directory) replace(path string) error {
	f, err := os.CreateTemp(string(d), ".marker-*")
	if err != nil {
		return err
	}
	f.Close()
	err = os.Rename(f.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		err = errors.Join(os.Rename(path, path+"-"+rand.Text()), os.Rename(f.Name(), path))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// pollInterval is how long a file system without events may delay a marker.
const pollInterval = time.Second

// Wait returns the first of names that place holds, in the order given when
// there are several, as soon as there is one. It ends with context.Cause(ctx).
func Wait(ctx context.Context, place Place, names ...Name) (Name, error) {
	watch := newWatch(place)
	defer watch.close()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		for _, name := range names {
			if Exists(place, name) {
				return name, nil
			}
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-watch.events():
		case <-watch.errors():
		case <-tick.C:
			watch.renew()
		}
	}
}

// watch is an inotify watch on a place whose directory may come, go and move.
// Without inotify it is silent, and the tick alone drives the waiting.
type watch struct {
	place   Place
	inotify *fsnotify.Watcher
	path    string
	inode   fs.FileInfo
}

func newWatch(place Place) *watch {
	w := &watch{place: place}
	w.inotify, _ = fsnotify.NewWatcher()
	w.renew()
	return w
}

// renew puts the watch on the directory that the place is now.
func (w *watch) renew() {
	if w.inotify == nil {
		return
	}
	path := w.place.Path()
	now, err := os.Stat(path)
	if err != nil || path == w.path && w.inode != nil && os.SameFile(now, w.inode) {
		return
	}
	if w.path != "" {
		w.inotify.Remove(w.path)
	}
	w.path, w.inode = "", nil
	if w.inotify.Add(path) == nil {
		w.path, w.inode = path, now
	}
}

func (w *watch) events() <-chan fsnotify.Event {
	if w.inotify == nil {
		return nil
	}
	return w.inotify.Events
}

func (w *watch) errors() <-chan error {
	if w.inotify == nil {
		return nil
	}
	return w.inotify.Errors
}

func (w *watch) close() {
	if w.inotify != nil {
		w.inotify.Close()
	}
}
