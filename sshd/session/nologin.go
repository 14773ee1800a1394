package session

import (
	"fmt"
	"io"
	"os"

	"buildenv/internal/fsx"
)

// noLogins is the file that keeps everybody but root out (nologin(5)). It is the
// server's own: sshd looks at it before it enters a jail.
const noLogins = "/etc/nologin"

// maxNotice bounds a text for users, in bytes.
const maxNotice = 1 << 20

// turnedAway is what a user is told that may not log in now.
func turnedAway(file string, uid int) (notice string, is bool) {
	if uid == 0 {
		return "", false
	}
	if _, err := os.Stat(file); err != nil {
		return "", false
	}
	f, err := fsx.OpenRegular(file)
	if err != nil {
		return "", true
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, maxNotice))
	return string(text), true
}

// turnAway tells so, and ends the session as sshd does.
func (s *session) turnAway(notice string) {
	s.Log.Info(fmt.Sprintf("User %s not allowed because %s exists", s.Account.Name, noLogins), "from", s.Remote)
	_, stderr := s.streams()
	io.WriteString(stderr, notice)
	s.sendExitStatus(exitRefused)
	s.out.closeWrite()
}
