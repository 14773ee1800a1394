package e2e

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// workFolder is where the scripts work. It is taken away with the test, but
// never with a mount in it: removing a tree into which a failed job has left
// /dev mounted would remove the machine's devices.
func workFolder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.ArtifactDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmountBelow(t, dir) })
	return dir
}

func unmountBelow(t *testing.T, dir string) {
	left, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		t.Errorf("look for mounts: %s: %v", dir, err)
		return
	}
	for _, mount := range slices.Backward(left) {
		t.Errorf("left mounted: %s (%s)", mount.Mountpoint, mount.FSType)
		if err := unix.Unmount(mount.Mountpoint, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", mount.Mountpoint, err)
		}
	}
}
