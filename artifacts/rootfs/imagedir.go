package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// imageDir is where recipes leave what an image was built from: passwords and
// keys among it.
const imageDir = "image"

// SecureImageDir makes /image in the root, when there is one, its owner's
// business: everything belongs to root, directories are 0700, files 0600 and
// *.sh 0700. Links are not followed, /image itself included; they only change owner.
func SecureImageDir(r *Root) error {
	err := secure(r, imageDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("secure /%s: %w", imageDir, err)
	}
	return nil
}

func secure(r *Root, name string) error {
	st, err := r.Lstat(name)
	if err != nil {
		return err
	}
	if name == imageDir && !isDir(st.Mode) {
		return nil
	}
	if err := secureOne(r, name, st.Mode); err != nil || !isDir(st.Mode) {
		return err
	}
	names, err := r.ReadDir(name)
	if err != nil {
		return err
	}
	for _, child := range names {
		if err := secure(r, name+"/"+child); err != nil {
			return err
		}
	}
	return nil
}

func secureOne(r *Root, name string, kind uint32) error {
	handle, err := r.Handle(name)
	if err != nil {
		return err
	}
	defer handle.Close()
	meta := Meta{Mode: 0o600, Mtime: Now}
	if isDir(kind) || kind&unix.S_IFMT == unix.S_IFREG && strings.HasSuffix(name, ".sh") {
		meta.Mode = 0o700
	}
	if err := meta.Apply(handle, nil); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return nil
}
