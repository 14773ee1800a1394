// Package scp is the far end of scp(1) in its old protocol: what a client runs
// as "scp -t" to send files and as "scp -f" to get them (scp -O today, and every
// scp before OpenSSH 9.0). It lets files be copied into and out of an image root
// that has no scp program, or no shell to start one, or one for another
// architecture.
//
// The messages, the records on the wire and what is left behind are those of
// OpenSSH's scp. A client is not trusted with more than it could do by sftp: a
// name that it sends is one name in the directory that the command names, and
// every path is resolved by a [jail.Jail].
//
// The shell that would have expanded the command's words is not there, so this
// package does it, for words that are plain, quoted, or patterns; see [Parse].
//
// Where OpenSSH's behaviour would harm, this one differs: without -p no
// set-user-ID bit is received, and fifos, which may keep a transfer for ever, are
// not written to.
package scp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path"
	"strings"
	"syscall"

	"buildenv/internal/wording"
	"buildenv/sshd/jail"

	"golang.org/x/sys/unix"
)

// Options are what a command runs with.
type Options struct {
	Home      string // for "~"
	Directory string // where relative paths begin, absolute
	Umask     int
	Stderr    io.Writer    // for option -v
	Audit     *slog.Logger // a record for each file; nil for none
}

// errEnd ends the command at once: the other side has broken the protocol or
// is gone.
var errEnd = errors.New("the client is gone or broke the protocol")

// transfer is a command that runs.
type transfer struct {
	Command
	opts   Options
	jail   *jail.Jail
	peer   *peer
	failed bool // something could not be copied

	// Of the file that is received: what went wrong first, and how the client is
	// told when it listens.
	noted     error
	complaint string
}

// Run carries the command out and returns its exit status. rw is the client;
// Run ends when it does. The umask of j is the command's until then.
func (c Command) Run(rw io.ReadWriter, j *jail.Jail, o Options) int {
	if o.Audit == nil {
		o.Audit = slog.New(slog.DiscardHandler)
	}
	t := &transfer{Command: c, opts: o, jail: j, peer: newPeer(rw)}
	restore := t.setUmask()
	defer restore()
	paths, err := t.expandAll()
	switch {
	case err != nil:
		t.fail("%s", wording.Reason(err))
	case c.Sink:
		err = t.receiveAll(paths)
	default:
		err = t.sendAll(paths)
	}
	if err != nil || t.failed {
		return 1
	}
	return 0
}

// mask is what is taken from the modes of what is received: with -p nothing.
// Without it nobody asked for programs that run with their owner's rights, which
// OpenSSH's scp left to the sender before version 10.3.
func (t *transfer) mask() uint32 {
	if t.Preserve {
		return 0
	}
	const special = unix.S_ISUID | unix.S_ISGID | unix.S_ISVTX
	return uint32(t.opts.Umask) | special
}

func (t *transfer) setUmask() (restore func()) {
	old := 0
	set := func(mask int) {
		t.inJail(func() error { old = syscall.Umask(mask); return nil })
	}
	set(int(t.mask()))
	return func() { set(old) }
}

// inJail runs a path operation.
func (t *transfer) inJail(op func() error) error { return t.jail.Do(op) }

// at is a path for the system, which has another working directory.
func (t *transfer) at(name string) string {
	if name == "" || name[0] == '/' {
		return name
	}
	return strings.TrimSuffix(t.opts.Directory, "/") + "/" + name
}

// audit writes a record of what was done to a file.
func (t *transfer) audit(event, name string, err error, more ...any) {
	record := append([]any{"path", wording.UTF8(path.Clean(t.at(name)))}, more...)
	if err != nil {
		record = append(record, "error", wording.Cause(err))
	}
	t.opts.Audit.Log(context.Background(), slog.LevelInfo, "scp."+event, record...)
}
