package sftp

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// Status codes, draft-ietf-secsh-filexfer-02 section 7.
const (
	statusOK               = 0
	statusEOF              = 1
	statusNoSuchFile       = 2
	statusPermissionDenied = 3
	statusFailure          = 4
	statusBadMessage       = 5
	statusUnsupported      = 8
)

// statusMessages are OpenSSH's words; some clients show them to their user.
var statusMessages = map[uint32]string{
	statusOK:               "Success",
	statusEOF:              "End of file",
	statusNoSuchFile:       "No such file",
	statusPermissionDenied: "Permission denied",
	statusFailure:          "Failure",
	statusBadMessage:       "Bad message",
	statusUnsupported:      "Operation unsupported",
}

// statusOf maps an error to a status code in the way of OpenSSH's
// sftp-server, for clients have learned to depend on it.
func statusOf(err error) uint32 {
	if err == nil {
		return statusOK
	}
	switch err {
	case io.EOF:
		return statusEOF
	case errNoUser:
		return statusNoSuchFile
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return statusFailure
	}
	switch errno {
	case unix.ENOENT, unix.ENOTDIR, unix.EBADF, unix.ELOOP:
		return statusNoSuchFile
	case unix.EPERM, unix.EACCES, unix.EFAULT:
		return statusPermissionDenied
	case unix.ENAMETOOLONG, unix.EINVAL:
		return statusBadMessage
	case unix.ENOSYS:
		return statusUnsupported
	}
	return statusFailure
}

// messageOf is OpenSSH's word for how a request ended.
func messageOf(err error) string {
	if err == errNoUser {
		return "no such user"
	}
	return statusMessages[statusOf(err)]
}

// status makes p the reply that says how request id ended.
func (p *packet) status(id uint32, err error) {
	p.begin(fxpStatus, id)
	p.u32(statusOf(err))
	p.string(messageOf(err))
	p.string("") // language tag
}
