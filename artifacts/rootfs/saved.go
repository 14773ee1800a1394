package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"
)

// maxSaved is how many bytes of one file a record keeps.
const maxSaved = 64 << 10

// saved is what a name held before a job changed it, with enough of it to make
// it again. The zero value is a name that held nothing.
type saved struct {
	Mode    uint32        `json:"mode,omitempty"` // type and permission bits; 0: there was nothing
	UID     int           `json:"uid,omitempty"`
	GID     int           `json:"gid,omitempty"`
	Mtime   unix.Timespec `json:"mtime,omitzero"`
	Target  string        `json:"target,omitempty"`  // of a symbolic link
	Content []byte        `json:"content,omitempty"` // of a regular file, when Whole
	Whole   bool          `json:"whole,omitempty"`   // recreate can make it again
}

// save describes what name holds now.
func save(r *Root, name string) (saved, error) {
	st, err := r.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return saved{}, nil
	}
	if err != nil {
		return saved{}, err
	}
	s := saved{Mode: st.Mode, UID: int(st.Uid), GID: int(st.Gid), Mtime: st.Mtim}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		s.Target, err = r.Readlink(name)
		s.Whole = err == nil
	case st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size <= maxSaved:
		s.Content, err = r.ReadFile(name, maxSaved)
		s.Whole = err == nil
	}
	return s, err
}

// absent tells whether there was nothing.
func (s saved) absent() bool { return s.Mode == 0 }

// same tells whether t describes the same object, as far as records go.
func (s saved) same(t saved) bool {
	return s.Mode == t.Mode && s.UID == t.UID && s.GID == t.GID && s.Mtime == t.Mtime &&
		s.Target == t.Target && bytes.Equal(s.Content, t.Content)
}

// recreate makes name what it was and replaces what it holds now.
func (s saved) recreate(r *Root, name string) error {
	meta := Meta{Mode: s.Mode, UID: s.UID, GID: s.GID, Mtime: s.Mtime}
	switch {
	case s.absent():
		return removeIfThere(r, name)
	case !s.Whole:
		return fmt.Errorf("restore: %q: its copy is gone and it was more than a record holds (%d bytes)", name, maxSaved)
	case s.Mode&unix.S_IFMT == unix.S_IFREG:
		return r.WriteFile(name, bytes.NewReader(s.Content), meta)
	}
	if err := removeIfThere(r, name); err != nil {
		return err
	}
	if err := r.Symlink(s.Target, name); err != nil {
		return err
	}
	handle, err := r.Handle(name)
	if err != nil {
		return err
	}
	defer handle.Close()
	return meta.Apply(handle, nil)
}

// holds tells whether name is a regular file with exactly this content.
func holds(r *Root, name string, content []byte) (bool, error) {
	st, err := r.Lstat(name)
	if gone(err) {
		return false, nil
	}
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != int64(len(content)) {
		return false, err
	}
	f, err := r.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	now, err := io.ReadAll(io.LimitReader(f, st.Size+1))
	return bytes.Equal(now, content), err
}

// gone tells that a name holds nothing, its parents perhaps included.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

func removeIfThere(r *Root, name string) error {
	if err := r.Remove(name); err != nil && !gone(err) {
		return err
	}
	return nil
}

// removeEmpty removes the directories that a job made, innermost first; those
// that are no longer empty, or no longer directories, are somebody else's by now.
func removeEmpty(r *Root, made []string) error {
	for i := len(made) - 1; i >= 0; i-- {
		st, err := r.Lstat(made[i])
		if gone(err) || err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		if err == nil {
			err = r.Remove(made[i])
		}
		if err != nil && !errors.Is(err, unix.ENOTEMPTY) && !gone(err) {
			return err
		}
	}
	return nil
}
