package squashfs

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// UnpackOptions say how an archive is unpacked. The zero value means silence.
type UnpackOptions struct {
	// Progress is told now and then how many bytes of the archive have been read; nil for nobody.
	Progress func(read int64)
	// Log is told which extended attributes this file system or process cannot
	// set, which is no reason to stop; nil for nobody.
	Log *slog.Logger
}

// Unpack makes the directory dir from an archive with unsquashfs. dir must not
// exist or be empty, and not be a mount point; on error it is as it was.
// Owners, modes, times and devices that cannot be set as the archive has them
// are an error.
func Unpack(ctx context.Context, archive, dir string, opts UnpackOptions) error {
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
	if err := runUnpack(ctx, archive, content, info.Size(), opts); err != nil {
		return err
	}
	// rename(2) replaces an empty directory, os.Rename refuses to.
	return os.NewSyscallError("rename", unix.Rename(content, dir))
}

// queue bounds each of the tool's two buffers, in MiB. By itself it takes 256
// for each, which makes it no faster.
const queue = "64"

func runUnpack(ctx context.Context, archive, content string, size int64, opts UnpackOptions) error {
	cmd := exec.Command("unsquashfs", "-no-progress", "-quiet",
		"-data-queue", queue, "-frag-queue", queue, "-dest", content, archive)
	report := func(int64) {}
	if opts.Progress != nil {
		report = opts.Progress
	}
	var said complaints
	stop := func() {}
	err := runTool(ctx, cmd, said.hear, func(pid int) {
		stop = every(progressPace, func() {
			if n := bytesRead(pid); n > 0 {
				report(min(n, size))
			}
		})
	})
	stop()
	if said.onlyAttributes(err) {
		if opts.Log != nil {
			opts.Log.Warn("extended attributes are not kept here", "files", said.attributes, "first", said.first)
		}
		err = nil
	}
	if err == nil {
		report(size)
	}
	return err
}

// complaints sorts what unsquashfs says about what it could not do.
type complaints struct {
	attributes int    // lines about extended attributes
	first      string // the first of them
	others     int
}

func (c *complaints) hear(line string) {
	switch {
	case strings.TrimSpace(line) == "":
	case !strings.Contains(line, "xattr"):
		c.others++
	default:
		if c.attributes++; c.attributes == 1 {
			c.first = line
		}
	}
}

// onlyAttributes judges the exit status: 2 means that something was left out
// (unsquashfs(1), EXIT STATUS), which may be what an unprivileged process or a
// simple file system must do without.
func (c *complaints) onlyAttributes(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == 2 && c.attributes > 0 && c.others == 0
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

// Inodes reads from an archive's superblock how many inodes it claims to have
// (linux/fs/squashfs/squashfs_fs.h: magic, inodes, … each 32 bits).
func Inodes(archive string) (int64, error) {
	f, err := os.Open(archive)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	superblock := make([]byte, 96)
	if _, err := io.ReadFull(f, superblock); err != nil {
		return 0, fmt.Errorf("read superblock: %s: truncated: %w", archive, io.ErrUnexpectedEOF)
	}
	return int64(binary.LittleEndian.Uint32(superblock[4:])), nil
}
