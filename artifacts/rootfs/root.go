// Package rootfs handles an image root as what it is: somebody else's file
// system, hostile until proven otherwise.
//
// A [Root] is a directory that look-ups cannot leave. Links in it are followed
// as after chroot(2): an absolute link, or one with too many "..", leads to a
// place inside the root (openat2(2), RESOLVE_IN_ROOT). So /boot/vmlinuz →
// /boot/vmlinuz-6.1 works, and /etc → /etc does not reach the host's.
//
//	root, err := rootfs.Open("/mnt/image/image-root")
//	kernel, err := root.Open("boot/vmlinuz")        // follows links, inside
//	err = root.WriteFile("etc/motd", text, meta)    // replaces the name itself
//
// Names are relative to the root; leading slashes mean nothing, and bytes need
// not be UTF-8. Unless a method says otherwise, parents are resolved inside the
// root and the last component is acted on as it is, never followed.
//
// On top of that stand the things that a job does to a root and takes back:
// [Resolver], [CA] and [Mounts]. Each is planned first, which changes nothing;
// the plan is a plain record that is stored outside the root as JSON; then Put
// applies it and Restore undoes it, as often as wanted and from whatever point
// a crash has left.
//
// The package does not chroot, does not run commands in the root, and needs
// /proc mounted in the process's own file system.
package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// ErrBadName is returned for a name that cannot be an entry: its last
// component is "..".
var ErrBadName = errors.New("name ends in \"..\"")

// Root is an open image root. It may be used concurrently, unless it was
// opened by [OpenPrivate].
type Root struct {
	path string
	dir  *os.File // O_PATH

	private bool
	parent  string   // the last parent that was looked up, when private
	last    *os.File // its handle, nil for none
}

// Open opens the directory dir as an image root. dir itself is the operator's
// word and is followed wherever it leads.
func Open(dir string) (*Root, error) {
	path, err := filepath.Abs(dir)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open image root: %s: %w", dir, err)
	}
	handle, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open image root: %w", err)
	}
	return &Root{path: path, dir: handle}, nil
}

// OpenPrivate opens a root that nobody else changes in the meantime and that
// one goroutine uses, as when unpacking. The last parent directory is then
// kept open, which spares most look-ups.
func OpenPrivate(dir string) (*Root, error) {
	r, err := Open(dir)
	if err != nil {
		return nil, err
	}
	r.private = true
	return r, nil
}

// Close releases the root. Files that were opened through it stay open.
func (r *Root) Close() error {
	r.forget()
	return r.dir.Close()
}

// Path is the root's absolute path without symbolic links.
func (r *Root) Path() string { return r.path }

// within resolves the parent of name inside the root and lets op act on the
// last component, which is "." for the root itself.
func (r *Root) within(step, name string, op func(dir int, base string) error) error {
	parent, base := split(name)
	if base == ".." {
		return fmt.Errorf("%s: %q: %w", step, name, ErrBadName)
	}
	dir, done, err := r.lookUp(parent)
	if err != nil {
		return fmt.Errorf("%s: %q: %w", step, name, errno(err))
	}
	defer done()
	if err := op(int(dir.Fd()), base); err != nil {
		return fmt.Errorf("%s: %q: %w", step, name, err)
	}
	return nil
}

// lookUp opens a path inside the root as a handle (O_PATH), following links.
// done must be called after use.
func (r *Root) lookUp(path string) (handle *os.File, done func(), err error) {
	if path == "" {
		return r.dir, func() {}, nil
	}
	if r.private && r.last != nil && r.parent == path {
		return r.last, func() {}, nil
	}
	handle, err = pathrs.OpenatInRoot(r.dir, path)
	if err != nil {
		return nil, nil, err
	}
	if !r.private {
		return handle, func() { handle.Close() }, nil
	}
	r.forget()
	r.parent, r.last = path, handle
	return handle, func() {}, nil
}

// forget drops the kept parent: its path may lead elsewhere from now on.
func (r *Root) forget() {
	if r.last != nil {
		r.last.Close()
	}
	r.parent, r.last = "", nil
}

// split cuts a name into parent and last component. Only slashes at the ends
// are dropped: cleaning "a/../b" by its letters would be wrong where a is a link.
func split(name string) (parent, base string) {
	name = strings.Trim(name, "/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		parent, name = strings.TrimRight(name[:i], "/"), name[i+1:]
	}
	if name == "" {
		name = "."
	}
	return parent, name
}

// errno strips the resolver's own wrapping, which names the host's paths.
func errno(err error) error {
	var number unix.Errno
	if errors.As(err, &number) {
		return number
	}
	return err
}

// missing lists the directories that a MkdirAll of dir would make, outermost
// first. Links to directories count as directories.
func (r *Root) missing(dir string) ([]string, error) {
	var names []string
	for dir = strings.Trim(dir, "/"); dir != ""; dir, _ = split(dir) {
		st, err := r.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			names = append([]string{dir}, names...)
		case err != nil:
			return nil, err
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return nil, fmt.Errorf("make directory: %q: %w", dir, unix.ENOTDIR)
		default:
			return names, nil
		}
	}
	return names, nil
}
