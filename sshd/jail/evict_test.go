package jail

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// chrooted starts a busybox shell in a jail, in a session of its own.
func chrooted(t *testing.T, dir, script string) *exec.Cmd {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox-static")
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "busybox"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: "/busybox", Args: []string{"sh", "-c", script},
		SysProcAttr: &syscall.SysProcAttr{Chroot: dir, Setsid: true}}
	ready, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil { // its traps are set
		t.Fatal(err)
	}
	return cmd
}

func TestEvictEndsDaemons(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	for name, script := range map[string]string{
		"willing":  "echo; while :; do /busybox sleep 1; done",
		"stubborn": "trap '' TERM; echo; while :; do /busybox sleep 1; done",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			daemon := chrooted(t, dir, script)
			ended := make(chan error, 1)
			go func() { ended <- daemon.Wait() }()
			if err := Evict(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err == nil {
				t.Error("the daemon ended by itself")
			}
		})
	}
}

func TestEvictLeavesOthersAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("reads other processes' root directories")
	}
	home := t.TempDir()
	neighbour := home + "2"
	if err := os.Mkdir(neighbour, 0o755); err != nil {
		t.Fatal(err)
	}
	daemon := chrooted(t, neighbour, "echo; exec /busybox sleep 1000")
	defer daemon.Process.Kill()
	if err := Evict(t.Context(), home); err != nil {
		t.Fatal(err)
	}
	if err := daemon.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process next door: %v", err)
	}
}
