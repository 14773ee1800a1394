package jail

import (
	"os"
	"testing"
)

// TestTheProcessStaysOutside: what /proc tells about a process, its mounts for
// one, it tells from where the main thread is. So many jails at once would take
// the main thread too, were it to be had.
func TestTheProcessStaysOutside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	dir := t.TempDir()
	before, err := os.Readlink("/proc/self/root")
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		j, err := Enter(dir, 0o022)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(j.Close)
		var entries []os.DirEntry
		err = j.Do(func() (err error) {
			entries, err = os.ReadDir("/")
			return err
		})
		if err != nil || len(entries) != 0 {
			t.Fatalf("a jail in an empty directory holds %v, %v", entries, err)
		}
		if after, err := os.Readlink("/proc/self/root"); err != nil || after != before {
			t.Fatalf("the process's root directory is %s now, %v; want %s", after, err, before)
		}
	}
}
