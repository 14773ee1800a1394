package squashfs

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sysListxattrat is listxattrat(2), of Linux 6.13; the number is the same on all
// architectures.
const sysListxattrat = 465

// noListxattrat is set once the kernel has turned out not to have the call.
var noListxattrat atomic.Bool

// listXattr is llistxattr(2) for a name in a directory.
func listXattr(at int, name string, dst []byte) (int, error) {
	if !noListxattrat.Load() {
		n, err := listxattrat(at, name, dst)
		if err != unix.ENOSYS && err != unix.EPERM { // which is what a filter of system calls may say
			return n, err
		}
		noListxattrat.Store(true)
	}
	return unix.Llistxattr(throughProc(at, name), dst)
}

func listxattrat(at int, name string, dst []byte) (int, error) {
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(sysListxattrat, uintptr(at), uintptr(unsafe.Pointer(path)), unix.AT_SYMLINK_NOFOLLOW,
		uintptr(unsafe.Pointer(unsafe.SliceData(dst))), uintptr(len(dst)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// throughProc is a name in a directory for calls that take no descriptor: the way
// through /proc follows the directory's descriptor and not its name.
func throughProc(at int, name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", at, name) }
