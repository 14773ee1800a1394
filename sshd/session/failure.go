package session

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"buildenv/internal/wording"
)

// Exit statuses of a job that could not start, as POSIX shells have them
// (XCU 2.8.2); the next is sshd's for who may not log in now, the last ssh's own
// for "no session" (ssh(1)).
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitRefused       = 254
	exitNoSession     = 255
)

// failure is a job that could not start, as its user is told.
type failure struct {
	text, hint string
	exit       int
}

// notStarted explains why a shell did not start: in an image root it is
// missing, incomplete or for another machine more often than not.
func notStarted(shell string, found, jailed bool, err error) failure {
	where := "the build environment"
	if jailed {
		where = "the image root"
	}
	f := failure{text: shell + ": " + wording.Reason(err), exit: exitNotExecutable}
	switch {
	case errors.Is(err, errEnding):
		f = failure{text: "the build environment is ending; no new sessions", exit: exitNoSession}
	case errors.Is(err, unix.ENOENT) && !found:
		f.exit = exitNotFound
		f.hint = fmt.Sprintf("there is no shell in %s; sftp and scp work without one, so a static shell can be copied to %s", where, shell)
	case errors.Is(err, unix.ENOENT):
		f.exit = exitNotFound
		f.hint = fmt.Sprintf("%s is there, but its dynamic loader or interpreter is missing in %s; is the C library installed?", shell, where)
	case errors.Is(err, unix.ENOEXEC):
		f.hint = fmt.Sprintf("%s is for another processor architecture and this machine has no emulator registered for it (binfmt_misc), or the file is damaged", shell)
	case errors.Is(err, unix.EACCES):
		f.hint = fmt.Sprintf("is %s executable, and its file system not mounted noexec?", shell)
	}
	return f
}

// fail tells the user and ends the session.
func (s *session) fail(f failure) {
	_, stderr := s.streams()
	fmt.Fprintln(stderr, f.text)
	if f.hint != "" {
		fmt.Fprintln(stderr, "hint: "+f.hint)
	}
	s.sendExitStatus(f.exit)
	s.out.closeWrite()
}
