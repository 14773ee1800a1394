package source

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxMessages bounds what is kept of unsquashfs's messages, in bytes.
const maxMessages = 64 << 10

// unpackSquashfs lets unsquashfs(1) make the directory dst.
func unpackSquashfs(ctx context.Context, src, dst string, opts Options) error {
	tool, err := exec.LookPath("unsquashfs")
	if err != nil {
		return fmt.Errorf("%w: install the package squashfs-tools", err)
	}
	if err := checkInodes(src, opts.MaxEntries); err != nil {
		return err
	}
	// Absolute paths never look like options.
	if src, err = filepath.Abs(src); err == nil {
		dst, err = filepath.Abs(dst)
	}
	if err != nil {
		return err
	}
	// The queues take 256 MiB each unless told otherwise, which buys no speed.
	cmd := exec.CommandContext(ctx, tool, "-quiet", "-no-progress", "-data-queue", "64", "-frag-queue", "64", "-dest", dst, src)
	var messages capped
	cmd.Stderr = &messages
	stop := watchSpace(filepath.Dir(dst), opts.Progress)
	err = cmd.Run()
	stop()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return verdict(err, string(messages.text), opts)
}

// verdict judges the exit status: 2 means that something was left out. That is
// only acceptable for attributes which this file system or process cannot set.
func verdict(err error, messages string, opts Options) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 && onlyAttributes(messages) {
		opts.Log.Warn("extended attributes are not kept here", "unsquashfs", messages)
		return nil
	}
	if err == nil {
		return nil
	}
	hint := ""
	if strings.Contains(messages, "not permitted") {
		hint = " (needs root; devices need CAP_MKNOD, trusted attributes CAP_SYS_ADMIN)"
	}
	return fmt.Errorf("unsquashfs: %w: %s%s", err, strings.Join(strings.Fields(messages), " "), hint)
}

func onlyAttributes(messages string) bool {
	if messages == "" || len(messages) == maxMessages {
		return false // nothing to judge by, or cut off
	}
	for line := range strings.Lines(messages) {
		if strings.TrimSpace(line) != "" && !strings.Contains(line, "xattr") {
			return false
		}
	}
	return true
}

// checkInodes reads the number of inodes from the superblock
// (linux/fs/squashfs/squashfs_fs.h: magic, inodes, … each 32 bits).
func checkInodes(src string, most int64) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 96)
	if _, err := io.ReadFull(f, head); err != nil {
		return fmt.Errorf("squashfs is truncated: %w", io.ErrUnexpectedEOF)
	}
	if inodes := int64(binary.LittleEndian.Uint32(head[4:])); inodes > most {
		return fmt.Errorf("%w of %d entries: %d", ErrTooBig, most, inodes)
	}
	return nil
}

// watchSpace reports every second how much space the file system of dir has
// lost, until stop is called; stop waits for the last report.
func watchSpace(dir string, progress func(int64)) (stop func()) {
	free := func() int64 {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) != nil {
			return 0
		}
		return int64(st.Bfree) * st.Bsize
	}
	before, quit, done := free(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				progress(max(before-free(), 0))
			}
		}
	}()
	return func() {
		close(quit)
		<-done
		progress(max(before-free(), 0))
	}
}

// capped keeps the first maxMessages bytes that are written to it. It has no other methods
// of a buffer, lest io.Copy find one without the bound.
type capped struct{ text []byte }

func (c *capped) Write(p []byte) (int, error) {
	c.text = append(c.text, p[:min(len(p), maxMessages-len(c.text))]...)
	return len(p), nil
}
