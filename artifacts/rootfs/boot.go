package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoBootFile is returned when an image has no kernel or initrd to boot from.
var ErrNoBootFile = errors.New("the image cannot boot")

// BootFiles are the open files of an image root that a node boots from.
type BootFiles struct {
	Kernel     *os.File
	Initrd     *os.File
	Parameters *os.File // nil when there is none
}

// Boot opens the boot files by their names in /boot. Links are followed inside
// the root: a distribution's vmlinuz is usually one, sometimes an absolute one.
// Kernel and initrd must be regular files with content. parameters may be ""
// or name a file that is not there. The caller closes the files.
func Boot(r *Root, kernel, initrd, parameters string) (files BootFiles, err error) {
	defer func() {
		if err != nil {
			files.Close()
			files = BootFiles{}
		}
	}()
	if files.Kernel, err = bootFile(r, kernel); err != nil {
		return files, fmt.Errorf("kernel: %w%s; set KERNEL_FILENAME or use --kernel", err, bootListing(r))
	}
	if files.Initrd, err = bootFile(r, initrd); err != nil {
		return files, fmt.Errorf("initrd: %w%s; set INITRD_FILENAME or use --initrd", err, bootListing(r))
	}
	if parameters == "" {
		return files, nil
	}
	files.Parameters, err = bootFile(r, parameters)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return files, fmt.Errorf("kernel parameters: %w; see KERNEL_PARAMETERS_FILENAME", err)
	}
	return files, nil
}

// Close closes the files that are open.
func (b BootFiles) Close() error {
	var failed []error
	for _, f := range []*os.File{b.Kernel, b.Initrd, b.Parameters} {
		if f != nil {
			failed = append(failed, f.Close())
		}
	}
	return errors.Join(failed...)
}

func bootFile(r *Root, name string) (*os.File, error) {
	if name == "" || strings.Contains(name, "/") || name == "." || name == ".." {
		return nil, fmt.Errorf("%w: %q is not the name of a file in /boot", ErrNoBootFile, name)
	}
	f, err := r.Open("boot/" + name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoBootFile, err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%w: \"boot/%s\" is a directory", ErrNoBootFile, name)
	case info.Size() == 0:
		err = fmt.Errorf("%w: \"boot/%s\" is empty", ErrNoBootFile, name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// bootListing says, for an error message, what /boot holds instead.
func bootListing(r *Root) string {
	const most = 20
	names, err := r.ReadDir("boot")
	switch {
	case errors.Is(err, unix.ENOENT):
		return "; the image has no /boot"
	case err != nil:
		return ""
	case len(names) == 0:
		return "; /boot is empty"
	}
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	return fmt.Sprintf("; /boot holds %q%s", names, more)
}

// isDir tells whether st_mode bits are those of a directory.
func isDir(mode uint32) bool { return mode&unix.S_IFMT == unix.S_IFDIR }
