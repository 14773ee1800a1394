package e2e

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

func miniRootFSCommand(ts *testscript.TestScript, args []string) {
	ts.Check(miniRootFS(ts.MkAbs(args[0])))
}

// miniRootFS makes an image root in which a shell runs and a job finds what it
// packages: busybox under all its names, the accounts of root and nobody, a
// kernel behind an absolute link and an initrd. Nothing in it but busybox is real.
func miniRootFS(root string) error {
	busybox, err := staticBusybox()
	if err != nil {
		return err
	}
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{
		{"bin", 0o755}, {"boot", 0o755}, {"dev", 0o755}, {"etc", 0o755},
		{"proc", 0o755}, {"root", 0o700}, {"sys", 0o755},
		{"tmp", 0o777 | os.ModeSticky},
		{"var", 0o755},
	} {
		if err := makeDir(filepath.Join(root, dir.path), dir.mode); err != nil {
			return err
		}
	}
	for path, content := range map[string]string{
		"etc/passwd":       "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"etc/group":        "root:x:0:\nnogroup:x:65534:\n",
		"etc/hostname":     "mini\n",
		"etc/resolv.conf":  "nameserver 192.0.2.53\n",
		"boot/vmlinuz-6.1": "a kernel\n",
		"boot/initrd-6.1":  "an initrd\n",
	} {
		if err := os.WriteFile(filepath.Join(root, path), []byte(content), 0o644); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{
		"boot/vmlinuz": "/boot/vmlinuz-6.1",
		"boot/initrd":  "initrd-6.1",
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			return err
		}
	}
	return installBusybox(busybox, filepath.Join(root, "bin"))
}

// makeDir gives the directory its mode whatever the umask.
func makeDir(path string, mode os.FileMode) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

func installBusybox(busybox, bin string) error {
	program, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bin, "busybox"), program, 0o755); err != nil {
		return err
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("list applets: %s: %w", busybox, err)
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(bin, applet)); err != nil {
			return err
		}
	}
	return nil
}

// staticBusybox finds a busybox that runs where there is no C library.
func staticBusybox() (string, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return "", errors.New("minirootfs: no busybox; try: tools/setup e2e")
	}
	program, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("minirootfs: %s: %w", path, err)
	}
	defer program.Close()
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			return "", fmt.Errorf("minirootfs: %s is not static; install busybox-static", path)
		}
	}
	return path, nil
}
