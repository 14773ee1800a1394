package rootfs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// systemMounts are what building kernel modules in a chroot needs.
var systemMounts = []struct {
	dir, kind string
	flags     uintptr
}{
	{"sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{"dev", "devtmpfs", unix.MS_NOSUID},
}

// Mounts are what is mounted below an image root while a job runs: perhaps the
// kernel's file systems, sysfs, proc and devtmpfs on /sys, /proc and /dev, and
// whatever users mount themselves.
type Mounts struct {
	Before []string `json:"before"` // what was mounted below the root, and stays
	System bool     `json:"system"` // the kernel's file systems are wanted
	Made   []string `json:"made"`   // mount points that the root lacks
}

// PlanUserMounts records what is mounted, so that Restore can tell what users
// have mounted since. Put does nothing then. It changes nothing.
func PlanUserMounts(r *Root) (Mounts, error) {
	before, err := Below(r.Path())
	if err != nil {
		return Mounts{}, fmt.Errorf("plan mounts: %w", err)
	}
	return Mounts{Before: before}, nil
}

// PlanMounts records what a Put of the kernel's file systems would change. It
// changes nothing.
func PlanMounts(r *Root) (Mounts, error) {
	m, err := PlanUserMounts(r)
	if err != nil {
		return Mounts{}, err
	}
	m.System = true
	for _, mount := range systemMounts {
		missing, err := r.missing(mount.dir)
		if err != nil {
			return Mounts{}, fmt.Errorf("plan mounts: %w", err)
		}
		m.Made = append(m.Made, missing...)
	}
	return m, nil
}

// Put mounts what is not mounted yet. It needs CAP_SYS_ADMIN. After an error,
// Restore undoes what has been done.
func (m Mounts) Put(r *Root) error {
	if !m.System {
		return nil
	}
	mounted, err := Below(r.Path())
	if err != nil {
		return err
	}
	for _, mount := range systemMounts {
		if err := r.MkdirAll(mount.dir, 0o755); err != nil {
			return err
		}
		if err := mountOn(r, mount.dir, mount.kind, mount.flags, mounted); err != nil {
			return fmt.Errorf("mount %s: /%s in the image: %w", mount.kind, mount.dir, err)
		}
	}
	return nil
}

// mountOn mounts through the descriptor of the mount point, which was looked
// up inside the root: no link can move it elsewhere in between.
func mountOn(r *Root, dir, kind string, flags uintptr, mounted []string) error {
	target, err := pathrs.OpenatInRoot(r.dir, dir)
	if err != nil {
		return errno(err)
	}
	defer target.Close()
	where, err := os.Readlink(fdPath(target))
	if err != nil {
		return err
	}
	if slices.Contains(mounted, where) {
		return nil
	}
	return privilege(unix.Mount(kind, fdPath(target), kind, flags, ""), "a privileged container with SYS_ADMIN")
}

// Restore unmounts everything below the root that was not mounted at the time
// of the plan, the user's own mounts too, and removes mount points that were
// made. Once done, or after the container was restarted, it does nothing.
func (m Mounts) Restore(r *Root) error {
	if err := UnmountAll(r.Path(), m.Before); err != nil {
		return err
	}
	if err := removeEmpty(r, m.Made); err != nil {
		return fmt.Errorf("remove mount points: %w", err)
	}
	return nil
}

// Below lists the mount points strictly below the directory root, in the order
// in which they were mounted; one with several file systems on top of each
// other is listed as often. root must be an absolute path without links.
func Below(root string) ([]string, error) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(root))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	points := []string{}
	for _, info := range infos {
		if info.Mountpoint != root {
			points = append(points, info.Mountpoint)
		}
	}
	return points, nil
}

// UnmountAll unmounts what is mounted strictly below root, except one mount
// for each time that keep lists its mount point. What is busy is detached: its
// name goes at once, the rest with its last user (umount2(2), MNT_DETACH).
// root is as for [Below], and not the root directory itself.
func UnmountAll(root string, keep []string) error {
	if root == "/" {
		return fmt.Errorf("unmount all: %s: is the system's own root directory", root)
	}
	for {
		extra, err := extraMounts(root, keep)
		if err != nil || len(extra) == 0 {
			return err
		}
		// One mount can hide another until it is gone, so an error counts only
		// when a whole round gets nowhere.
		var failed []error
		for _, point := range extra {
			if err := unmount(point); err != nil {
				failed = append(failed, fmt.Errorf("unmount: %s: %w", point, err))
			}
		}
		if len(failed) == len(extra) {
			return errors.Join(failed...)
		}
	}
}

// extraMounts lists what is not to be kept, deepest and newest first.
func extraMounts(root string, keep []string) ([]string, error) {
	points, err := Below(root)
	if err != nil {
		return nil, err
	}
	kept := map[string]int{}
	for _, point := range keep {
		kept[point]++
	}
	var extra []string
	for _, point := range points {
		if kept[point]--; kept[point] < 0 {
			extra = append(extra, point)
		}
	}
	slices.Reverse(extra)
	slices.SortStableFunc(extra, func(a, b string) int {
		return cmp.Compare(strings.Count(b, "/"), strings.Count(a, "/"))
	})
	return extra, nil
}

func unmount(point string) error {
	err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: another mount hides it", err)
	}
	return privilege(err, "a privileged container with SYS_ADMIN")
}
