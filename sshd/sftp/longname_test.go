package sftp

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestModeString(t *testing.T) {
	for mode, want := range map[uint32]string{
		unix.S_IFREG | 0o644:  "-rw-r--r--",
		unix.S_IFREG | 0o7777: "-rwsrwsrwt",
		unix.S_IFREG | 0o7000: "---S--S--T",
		unix.S_IFDIR | 0o1777: "drwxrwxrwt",
		unix.S_IFLNK | 0o777:  "lrwxrwxrwx",
		unix.S_IFCHR | 0o620:  "crw--w----",
		unix.S_IFBLK | 0o660:  "brw-rw----",
		unix.S_IFIFO | 0o600:  "prw-------",
		unix.S_IFSOCK | 0o755: "srwxr-xr-x",
		0xffffffff:            "?rwsrwsrwt",
	} {
		if got := modeString(mode); got != want {
			t.Errorf("mode %o: got %s, want %s", mode, got, want)
		}
	}
}
