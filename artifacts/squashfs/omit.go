package squashfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mount is something mounted below a root.
type mount struct {
	path      string // of the mount point
	name      string // the same, relative to the root
	directory bool
}

// mountsBelow lists what is mounted below root, an absolute path without
// links. The kernel's list is asked, not device numbers, because a bind mount
// has the device number of its source.
func mountsBelow(root string) ([]mount, error) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(root))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var mounts []mount
	for _, info := range infos {
		name, err := filepath.Rel(root, info.Mountpoint)
		if err != nil || name == "." {
			continue
		}
		stat, err := os.Lstat(info.Mountpoint)
		if err != nil {
			continue // hidden below another mount
		}
		mounts = append(mounts, mount{info.Mountpoint, name, stat.IsDir()})
	}
	return mounts, nil
}

// excludeOptions leaves out what is mounted. Of a directory only the content
// goes: an image without /proc does not start, and so the tool's own
// -one-file-system, which leaves out the mount point too, does not do.
func excludeOptions(mounts []mount) []string {
	if len(mounts) == 0 {
		return nil
	}
	options := []string{"-wildcards", "-e"} // -e takes all arguments that follow
	for _, m := range mounts {
		name := escapeWildcards(m.name)
		if m.directory {
			options = append(options, name+"/*", name+"/.*") // a * does not match a leading dot
		} else {
			options = append(options, name)
		}
	}
	return options
}

// escapeWildcards makes a name a pattern of fnmatch(3) that only it matches.
func escapeWildcards(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// warnLimit is how many files are named one by one.
const warnLimit = 20

// warnLost names what the archive of root leaves out: mounts, and extended
// attributes in namespaces that the format does not have, such as POSIX access
// control lists. mksquashfs 4.5 says that it met such an attribute, but not
// which file's it was.
func (p Packer) warnLost(ctx context.Context, root string, mounts []mount) error {
	mounted := map[string]bool{}
	for _, m := range mounts {
		p.Log.Warn("not packed: another file system is mounted there", "file", m.path)
		mounted[m.path] = true
	}
	lost := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if mounted[path] {
			return skip(entry)
		}
		names, err := listXattrs(path)
		if err != nil {
			return fmt.Errorf("list extended attributes: %s: %w", path, err)
		}
		for _, name := range names {
			if storable(name) {
				continue
			}
			if lost++; lost <= warnLimit {
				p.Log.Warn("not packed: squashfs cannot hold this attribute", "file", path, "attribute", name)
			}
		}
		return ctx.Err()
	})
	if lost > warnLimit {
		p.Log.Warn("not packed: more attributes that squashfs cannot hold", "count", lost-warnLimit)
	}
	return err
}

func skip(entry fs.DirEntry) error {
	if entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func storable(xattr string) bool {
	namespace, _, _ := strings.Cut(xattr, ".")
	return namespace == "user" || namespace == "trusted" || namespace == "security"
}

// listXattrs does not follow a link. Linux bounds the list to 64 KiB (listxattr(2)).
func listXattrs(path string) ([]string, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(list[:n]), func(r rune) bool { return r == 0 }), nil
}
