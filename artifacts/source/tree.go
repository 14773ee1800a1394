package source

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"buildenv/artifacts/rootfs"
)

// maxHeld bounds the attributes of directories that wait for the end: an
// archive could otherwise fill the memory with them.
const maxHeld = 64 << 20

// tree makes the entries of a new image root, in any order and as often as a
// source names them. Later entries replace earlier ones.
type tree struct {
	root   *rootfs.Root
	budget *budget
	log    *slog.Logger
	buffer []byte // for writeSparse

	// dirs is the metadata of directories. It is applied at the end, when no
	// entry changes their times any more or inherits their ACLs.
	dirs map[string]rootfs.Meta
	held int // bytes of attributes in dirs

	mu   sync.Mutex      // protects the following
	lost map[string]bool // namespaces of attributes that have been warned about
}

func newTree(root *rootfs.Root, opts Options) *tree {
	return &tree{
		root:   root,
		budget: &budget{maxBytes: opts.MaxBytes, maxEntries: opts.MaxEntries, progress: func(n int64) { opts.Progress(n, 0) }},
		log:    opts.Log,
		buffer: make([]byte, readBlock),
		dirs: map[string]rootfs.Meta{
			".": {Mode: 0o755, UID: os.Geteuid(), GID: os.Getegid(), Mtime: rootfs.Now}, // unless the source says otherwise
		},
		lost: map[string]bool{},
	}
}

// place lets create make name; it makes parents that are missing and removes
// what is in the way: a file, a link (never what it leads to), an empty directory.
func (t *tree) place(name string, create func() error) error {
	err := create()
	if errors.Is(err, fs.ErrNotExist) {
		if err := t.root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		err = create()
	}
	if errors.Is(err, fs.ErrExist) {
		if err := t.root.Remove(name); err != nil {
			return err
		}
		t.release(name)
		err = create()
	}
	return err
}

// directory makes a directory, or takes the one that is there.
func (t *tree) directory(name string, meta rootfs.Meta) error {
	if st, err := t.root.Lstat(name); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if err := t.place(name, func() error { return t.root.Mkdir(name, 0o700) }); err != nil {
			return err
		}
	}
	t.release(name)
	for _, attr := range meta.Xattrs {
		t.held += len(attr.Name) + len(attr.Value)
	}
	if t.held > maxHeld {
		return fmt.Errorf("%w of %d bytes of attributes of directories", ErrTooBig, maxHeld)
	}
	t.dirs[name] = meta
	return nil
}

// release forgets the metadata of a directory that is replaced.
func (t *tree) release(name string) {
	for _, attr := range t.dirs[name].Xattrs {
		t.held -= len(attr.Name) + len(attr.Value)
	}
	delete(t.dirs, name)
}

// file makes an empty regular file. The caller fills it, applies metadata and closes it.
func (t *tree) file(name string) (f *os.File, err error) {
	err = t.place(name, func() error {
		f, err = t.root.Create(name)
		return err
	})
	return f, err
}

// symlink makes a symbolic link; its text is taken as it is.
func (t *tree) symlink(name, target string, meta rootfs.Meta) error {
	if err := t.place(name, func() error { return t.root.Symlink(target, name) }); err != nil {
		return err
	}
	return t.apply(name, meta)
}

// node makes a device or fifo; kind is its type in st_mode.
func (t *tree) node(name string, kind uint32, device uint64, meta rootfs.Meta) error {
	err := t.place(name, func() error { return t.root.Mknod(name, kind|0o600, device) })
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (making devices needs CAP_MKNOD)", err)
	}
	if err != nil {
		return err
	}
	return t.apply(name, meta)
}

// link gives old, which has been unpacked before, a further name.
func (t *tree) link(name, old string) error {
	source, err := t.root.Lstat(old)
	if err != nil {
		return fmt.Errorf("hard link to what the source does not have: %w", err)
	}
	if st, err := t.root.Lstat(name); err == nil && st.Ino == source.Ino && st.Dev == source.Dev {
		return nil
	}
	return t.place(name, func() error { return t.root.Link(old, name) })
}

func (t *tree) apply(name string, meta rootfs.Meta) error {
	handle, err := t.root.Handle(name)
	if err != nil {
		return err
	}
	defer handle.Close()
	return meta.Apply(handle, t.warn(name))
}

// warn tells once for each namespace that attributes cannot be kept: every
// file of an image may have one.
func (t *tree) warn(name string) func(attr string, err error) {
	return func(attr string, err error) {
		namespace, _, _ := strings.Cut(attr, ".")
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.lost[namespace] {
			t.lost[namespace] = true
			t.log.Warn("extended attributes of this namespace are not kept here; further files are not listed",
				"namespace", namespace, "attribute", attr, "first", name, "reason", err)
		}
	}
}

// finish applies the metadata of the directories, children before parents.
func (t *tree) finish() error {
	names := slices.Sorted(maps.Keys(t.dirs))
	slices.Reverse(names)
	for _, name := range names {
		if err := t.apply(name, t.dirs[name]); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	t.budget.progress(t.budget.bytes)
	return nil
}
