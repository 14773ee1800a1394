// Package jail enters an image root the way the kernel means it: by chroot.
//
// An image root is somebody else's file system. Its links may be absolute, and
// an absolute link inside a jail must lead to a place inside the jail, which is
// what chroot(2) does and what no amount of path checking does as well. A
// process has one root directory, though, and a server has many jobs; so a
// [Jail] keeps one operating-system thread that has left the process's shared
// file-system attributes (unshare(2), CLONE_FS) and has a root directory, a
// working directory and a umask of its own. Path operations run on it; the
// files that they open may be read and written from anywhere.
//
// Commands need no thread: the kernel changes the root of the new process
// (syscall.SysProcAttr.Chroot).
//
// Root inside a chroot is not a security boundary against root: a jail keeps
// an administrator's work inside the image root, it does not imprison an
// attacker. docs/security.md says what is and what is not defended.
package jail

import (
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Jail runs path operations with a root directory of its own.
// It is safe for concurrent use; operations run one at a time.
type Jail struct {
	dir  string
	ops  chan func()
	once sync.Once
}

// Enter starts a thread whose root directory is dir and whose umask is umask.
// An empty dir stays in the process's own root directory, so that callers need
// no second code path; only the umask and working directory are then private.
// It needs CAP_SYS_CHROOT unless dir is empty.
func Enter(dir string, umask int) (*Jail, error) {
	j := &Jail{dir: dir, ops: make(chan func())}
	entered := make(chan error, 1)
	onOwnThread(func() { j.serve(umask, entered) })
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("enter jail: %s: %w", dir, err)
	}
	return j, nil
}

// onOwnThread runs f in a goroutine that never unlocks its thread, so that the
// thread ends with f and no other goroutine ever runs where f has gone. It is
// not the main thread: that one does not end before the process, and the
// process is where it is for whoever looks into /proc (proc_pid_root(5)), this
// program's own look at its mounts included.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// Nobody is given the main thread as long as this goroutine holds it.
		elsewhere := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(elsewhere)
			f()
		}()
		<-elsewhere
		runtime.UnlockOSThread()
	}()
}

// serve changes its thread's root for good, and works there until Close.
func (j *Jail) serve(umask int, entered chan<- error) {
	err := changeRoot(j.dir)
	entered <- err
	if err != nil {
		return
	}
	unix.Umask(umask)
	for op := range j.ops {
		op()
	}
}

func changeRoot(dir string) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if dir != "" {
		if err := unix.Chroot(dir); err != nil {
			return fmt.Errorf("chroot: %w", err)
		}
	}
	return unix.Chdir("/")
}

// Do runs op inside the jail and returns its error. Paths that op uses are
// resolved from the jail's root. A panic in op is raised again in the caller.
func (j *Jail) Do(op func() error) error {
	var err error
	var panicked any
	done := make(chan struct{})
	j.ops <- func() {
		defer close(done)
		defer func() { panicked = recover() }()
		err = op()
	}
	<-done
	if panicked != nil {
		panic(panicked)
	}
	return err
}

// Close ends the thread. Files that were opened inside stay open.
// It may be called more than once; Do must not be called after it.
func (j *Jail) Close() { j.once.Do(func() { close(j.ops) }) }
