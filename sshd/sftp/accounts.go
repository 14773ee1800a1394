package sftp

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The account files come from the image root, so their size is bounded.
const (
	maxAccountFile = 1 << 20 // bytes that are looked at
	maxAccountName = 256     // bytes; longer names count as unknown
)

// accounts are the names of users and groups inside the jail, by number.
type accounts struct{ users, groups map[uint32]string }

// user is the name of a user, or the number if it has none.
func (a accounts) user(id uint32) string { return nameOr(a.users, id) }

// group is the name of a group, or the number if it has none.
func (a accounts) group(id uint32) string { return nameOr(a.groups, id) }

func nameOr(names map[uint32]string, id uint32) string {
	if name := names[id]; name != "" {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// readAccounts reads passwd(5) and group(5) of the jail. A file that is not
// there has no names in it: an image need not have one.
func (s *session) readAccounts() accounts {
	return accounts{s.namesByID("/etc/passwd"), s.namesByID("/etc/group")}
}

// namesByID works for both files: name first, number third. The first entry
// for a number counts, as for getpwuid(3).
func (s *session) namesByID(path string) map[uint32]string {
	names := make(map[uint32]string)
	s.eachAccount(path, func(fields []string) {
		id, err := strconv.ParseUint(fields[2], 10, 32)
		if _, known := names[uint32(id)]; err == nil && !known {
			names[uint32(id)] = fields[0]
		}
	})
	return names
}

// homeDirectory is the one that the jail's passwd(5) gives for a user, "" if
// there is no such user.
func (s *session) homeDirectory(user string) string {
	home := ""
	s.eachAccount("/etc/passwd", func(fields []string) {
		if home == "" && fields[0] == user && len(fields) > 5 {
			home = fields[5]
		}
	})
	return home
}

// eachAccount calls do with the fields, three at least, of each line. The file
// is opened inside the jail but read outside, and by ReadAt, which does not
// wait: the name may lead to a device or to something in /proc that has
// nothing to say.
func (s *session) eachAccount(path string, do func(fields []string)) {
	var f *os.File
	err := s.inJail(func() (err error) {
		f, err = openFile(path, unix.O_RDONLY, 0)
		return err
	})
	if err != nil {
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(io.NewSectionReader(f, 0, maxAccountFile))
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) > 2 && fields[0] != "" && len(fields[0]) <= maxAccountName {
			do(fields)
		}
	}
}
