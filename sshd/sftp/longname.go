package sftp

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// halfYear is the age from which ls shows the year instead of the time.
const halfYear = 365 * 24 * time.Hour / 2

// longName is the line of "ls -l" that a client shows to its user. Nothing
// says how it looks, but clients exist that take it apart, so it is OpenSSH's
// to the letter.
func longName(e *entry, who accounts, now time.Time) string {
	modified := time.Unix(e.stat.Mtim.Sec, 0)
	date := modified.Format("Jan _2 15:04")
	if now.Sub(modified) > halfYear {
		date = modified.Format("Jan _2  2006")
	}
	return fmt.Sprintf("%s  %3d %-8s %-8s %8d %s %s", modeString(e.stat.Mode), e.stat.Nlink,
		who.user(e.stat.Uid), who.group(e.stat.Gid), e.stat.Size, date, e.name)
}

// modeString is the mode as ls shows it, such as "drwxr-xr-x".
func modeString(mode uint32) string {
	b := []byte{typeLetter(mode), 'r', 'w', 'x', 'r', 'w', 'x', 'r', 'w', 'x'}
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			b[1+i] = '-'
		}
	}
	for _, special := range []struct {
		bit    uint32
		at     int
		letter byte
	}{{unix.S_ISUID, 3, 's'}, {unix.S_ISGID, 6, 's'}, {unix.S_ISVTX, 9, 't'}} {
		if mode&special.bit == 0 {
			continue
		}
		if b[special.at] == '-' {
			special.letter -= 'a' - 'A' // a capital: set, but not executable
		}
		b[special.at] = special.letter
	}
	return string(b)
}

// typeLetters are the letters of ls for the type bits of a mode, by number:
// fifo 1, character device 2, directory 4, block device 6, regular file 8,
// link 10, socket 12 (inode(7)).
const typeLetters = "?pc?d?b?-?l?s???"

func typeLetter(mode uint32) byte { return typeLetters[mode&unix.S_IFMT>>12] }
