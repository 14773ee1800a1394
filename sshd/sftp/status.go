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
	if err == io.EOF {
		return statusEOF
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

// status makes p the reply that says how request id ended.
func (p *packet) status(id uint32, err error) {
	code := statusOf(err)
	p.begin(fxpStatus, id)
	p.u32(code)
	p.string(statusMessages[code])
	p.string("") // language tag
}
