package forward

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"buildenv/sshd/jail"
)

// within runs op with root as its root directory, on a thread of its own that ends with op:
// connections that do not forward paths, most of them, keep no thread.
func within(root string, umask int, op func() error) error {
	j, err := jail.Enter(root, umask)
	if err != nil {
		return err
	}
	defer j.Close()
	return j.Do(op)
}

// rooted is a path from the root directory, which is the working directory of a
// jail. A name that begins with @ is a file's, too; the library would take it
// for one of the kernel's own names, which no root directory holds.
func rooted(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return "/" + path
}

// queuePause is how long to wait before a socket whose queue is full is tried again.
const queuePause = 10 * time.Millisecond

// dialSocket connects to a Unix socket. A full queue, which for TCP the kernel
// waits out, is waited out here.
func dialSocket(ctx context.Context, root, path string) (conn net.Conn, err error) {
	for {
		err = within(root, 0, func() (err error) {
			conn, err = (&net.Dialer{}).DialContext(ctx, "unix", rooted(path))
			return err
		})
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-time.After(queuePause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// listenSocket listens on a new Unix socket. Its file is removed by remove, if it
// is still the same: an image shall not be shipped with it.
func listenSocket(root, path string, umask int, unlink bool) (l net.Listener, remove func() error, err error) {
	path = rooted(path)
	var made os.FileInfo
	err = within(root, umask, func() (err error) {
		if unlink {
			if err := unix.Unlink(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("unlink %s: %w", path, err)
			}
		}
		l, made, err = bindSocket(path)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return l, func() error {
		return within(root, 0, func() error { return removeSame(path, made) })
	}, nil
}

// bindSocket listens on path. It runs inside the jail.
func bindSocket(path string) (net.Listener, os.FileInfo, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it would, outside the jail
	info, err := os.Lstat(path)
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	return l, info, nil
}

// removeSame removes a file unless another one has its name now.
func removeSame(path string, made os.FileInfo) error {
	now, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !os.SameFile(made, now) {
		return err
	}
	return unix.Unlink(path)
}
