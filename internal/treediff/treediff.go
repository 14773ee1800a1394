// Package treediff compares two directory trees by everything that an image
// root must keep: type, mode, owner, size, times, device numbers, extended
// attributes, link targets, content and hard-link groups. diff(1) -r compares
// names and content only, which is far too little to trust an archiver by.
//
// It is made for tests. Access and change times, sizes of directories and link
// counts of directories are a file system's own affair and are not compared.
package treediff

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// Diff lists what differs between the trees a and b, one line for each
// difference ("path: what: value in a, value in b"), sorted by path; the roots
// themselves are compared as ".". Equal trees give an empty list.
func Diff(a, b string) ([]string, error) { return diff(a, b, 1) }

// DiffSeconds is Diff with modification times compared in whole seconds, for
// formats that keep no more, such as squashfs.
func DiffSeconds(a, b string) ([]string, error) { return diff(a, b, 1e9) }

func diff(a, b string, granularity int64) ([]string, error) {
	left, err := scan(a)
	if err != nil {
		return nil, fmt.Errorf("compare trees: %w", err)
	}
	right, err := scan(b)
	if err != nil {
		return nil, fmt.Errorf("compare trees: %w", err)
	}
	names := maps.Clone(left)
	maps.Copy(names, right)
	var found []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		l, inLeft := left[name]
		r, inRight := right[name]
		switch {
		case !inRight:
			found = append(found, fmt.Sprintf("%q: only in %s", name, a))
		case !inLeft:
			found = append(found, fmt.Sprintf("%q: only in %s", name, b))
		default:
			lines, err := compare(l, r, granularity)
			if err != nil {
				return nil, fmt.Errorf("compare trees: %q: %w", name, err)
			}
			for _, line := range lines {
				found = append(found, fmt.Sprintf("%q: %s", name, line))
			}
		}
	}
	return found, nil
}

// compare describes how two entries of the same name differ. When their types
// differ, the rest says nothing more.
func compare(l, r entry, granularity int64) ([]string, error) {
	var found []string
	check := func(what string, a, b any) {
		if a != b {
			found = append(found, fmt.Sprintf("%s: %v, %v", what, a, b))
		}
	}
	check("type", l.kind(), r.kind())
	if l.kind() != r.kind() {
		return found, nil
	}
	check("mode", fmt.Sprintf("%04o", l.stat.Mode&0o7777), fmt.Sprintf("%04o", r.stat.Mode&0o7777))
	check("uid", l.stat.Uid, r.stat.Uid)
	check("gid", l.stat.Gid, r.stat.Gid)
	check("mtime", l.mtime(granularity), r.mtime(granularity))
	check("hard link to", l.leader, r.leader)
	check("target", l.target, r.target)
	if l.isDevice() {
		check("device", deviceNumber(l.stat), deviceNumber(r.stat))
	}
	for _, attr := range slices.Sorted(maps.Keys(union(l.xattrs, r.xattrs))) {
		a, inLeft := l.xattrs[attr]
		b, inRight := r.xattrs[attr]
		check("xattr "+attr, shown(a, inLeft), shown(b, inRight))
	}
	if !l.isRegular() {
		return found, nil
	}
	check("size", l.stat.Size, r.stat.Size)
	if l.stat.Size != r.stat.Size {
		return found, nil
	}
	offset, err := firstDifference(l.path, r.path)
	if offset >= 0 {
		found = append(found, fmt.Sprintf("content: differs from byte %d on", offset))
	}
	return found, err
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func shown(value string, present bool) string {
	if !present {
		return "none"
	}
	return fmt.Sprintf("%q", value)
}

func deviceNumber(st unix.Stat_t) string {
	return fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
}

// firstDifference is the offset of the first byte that differs, -1 for none.
func firstDifference(a, b string) (int64, error) {
	left, err := openChunks(a)
	if err != nil {
		return -1, err
	}
	defer left.Close()
	right, err := openChunks(b)
	if err != nil {
		return -1, err
	}
	defer right.Close()
	for offset := int64(0); ; {
		l, errLeft := left.next()
		r, errRight := right.next()
		if errLeft != nil || errRight != nil {
			return -1, errors.Join(errLeft, errRight)
		}
		if !bytes.Equal(l, r) {
			return offset + int64(commonPrefix(l, r)), nil
		}
		if len(l) == 0 {
			return -1, nil
		}
		offset += int64(len(l))
	}
}

func commonPrefix(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
