package squashfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Unpack makes the directory dir from an archive with unsquashfs. dir must not
// exist or be empty, and not be a mount point; on error it is as it was. What
// cannot be set as the archive has it, such as an owner or an extended
// attribute, is an error. progress, when not nil, is told now and then how many
// bytes of the archive have been read.
func Unpack(ctx context.Context, archive, dir string, progress func(read int64)) error {
	if err := unpack(ctx, archive, dir, progress); err != nil {
		return fmt.Errorf("unpack %s: %w", archive, err)
	}
	return nil
}

func unpack(ctx context.Context, archive, dir string, progress func(int64)) error {
	info, err := os.Stat(archive)
	if err != nil {
		return err
	}
	if archive, err = filepath.Abs(archive); err != nil { // nothing that could be taken for an option
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := mustBeEmpty(dir); err != nil {
		return err
	}
	tree, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".tmp-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree) // renamed by then when all went well

	// The tool wants to make the directory itself; -force would let it use this one
	// but also overwrite names that stand twice in a forged archive.
	content := filepath.Join(tree, "root")
	if err := runUnpack(ctx, archive, content, info.Size(), progress); err != nil {
		return err
	}
	// rename(2) replaces an empty directory, os.Rename refuses to.
	return os.NewSyscallError("rename", unix.Rename(content, dir))
}

// queue bounds each of the tool's two buffers, in MiB. By itself it takes 256
// for each, which makes it no faster.
const queue = "64"

func runUnpack(ctx context.Context, archive, content string, size int64, progress func(int64)) error {
	cmd := exec.Command("unsquashfs", "-no-progress", "-quiet", "-strict-errors",
		"-data-queue", queue, "-frag-queue", queue, "-dest", content, archive)
	stop := func() {}
	err := runTool(ctx, cmd, func(pid int) {
		if progress != nil {
			stop = every(progressPace, func() {
				if n := bytesRead(pid); n > 0 {
					progress(min(n, size))
				}
			})
		}
	})
	stop()
	if err == nil && progress != nil {
		progress(size)
	}
	return err
}

func mustBeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%s: not an empty directory", dir)
	}
	return err
}

// bytesRead is how much a process has read by now, 0 when the kernel does not
// tell (proc_pid_io(5)).
func bytesRead(pid int) int64 {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/io")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if count, ok := strings.CutPrefix(lines.Text(), "rchar: "); ok {
			n, _ := strconv.ParseInt(count, 10, 64)
			return n
		}
	}
	return 0
}
