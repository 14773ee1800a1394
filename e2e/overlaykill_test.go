package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
)

// TestKilledWhilePreparingOverlay kills prepare at any moment. A root that is
// there has its layers, is whole when it is asked for, and can be packaged; where
// there is none, the next prepare makes it, and nothing of the first is left.
func TestKilledWhilePreparingOverlay(t *testing.T) {
	needRoot(t, "unsquashfs")
	work, program := workFolder(t), buildenv(t)
	in := func(name string) string { return filepath.Join(work, name) }
	must(t, miniRootFS(in("base")))
	tool(t, program, "squashfs", "pack", in("base"), in("base.sqsh"))
	prepare := []string{"prepare", "--root-mode", "overlay", in("job"), in("base.sqsh")}
	for after := time.Duration(0); after < 120*time.Millisecond; after += 15 * time.Millisecond {
		killed := exec.Command(program, prepare...)
		must(t, killed.Start())
		time.Sleep(after) // whichever moment that is, what follows must hold
		killed.Process.Kill()
		killed.Wait()
		if _, err := os.Lstat(in("job/image-root")); err != nil {
			tool(t, program, prepare...)
		}
		want := []string{".image-root.overlay", ".image-root.source", ".image-root.source.record", "image-root"}
		if got := namesIn(t, in("job")); !slices.Equal(got, want) {
			t.Errorf("killed after %s, there is %q, want %q", after, got, want)
		}
		tool(t, program, "package", "--root", in("job/image-root"), "--name", "x", "--to", "file://"+in("store"))
		archives, err := filepath.Glob(in("store/boot-images/*/rootfs"))
		must(t, err)
		tool(t, "unsquashfs", "-quiet", "-no-progress", "-dest", in("again"), archives[0])
		if got, want := strings.Join(namesIn(t, in("again")), " "), strings.Join(namesIn(t, in("base")), " "); got != want {
			t.Errorf("killed after %s, packaged: %s, want %s", after, got, want)
		}
		for _, mounted := range []string{"job/image-root", "job/.image-root.overlay/lower"} {
			if there, err := mountinfo.Mounted(in(mounted)); err != nil {
				t.Error(err)
			} else if there {
				tool(t, "umount", in(mounted))
			}
		}
		must(t, os.RemoveAll(in("job")))
		must(t, os.RemoveAll(in("store")))
		must(t, os.RemoveAll(in("again")))
	}
}

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
