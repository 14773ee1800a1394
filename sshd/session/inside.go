package session

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/jail"
	"buildenv/sshd/sftp"
)

// inside is a job in this process: sftp or a builtin. It reads and writes the
// channel through it, which tells when it was last busy.
type inside struct {
	channel ssh.Channel
	ctx     context.Context
	cancel  context.CancelFunc
	done    chan struct{}
	sftp    bool         // has idle times; a builtin is one command and has none
	last    atomic.Int64 // when something was last read or written, UnixNano
}

// idleAfter is how long nothing has to pass before a job counts as idle.
// Within a transfer a client answers faster.
const idleAfter = 200 * time.Millisecond

// stopPatience is how long a job may take to return after its context ended.
const stopPatience = 2 * time.Second

func (i *inside) Read(p []byte) (int, error) {
	n, err := i.channel.Read(p)
	i.last.Store(time.Now().UnixNano())
	return n, err
}

func (i *inside) Write(p []byte) (int, error) {
	n, err := i.channel.Write(p)
	i.last.Store(time.Now().UnixNano())
	return n, err
}

func (i *inside) end(ctx context.Context, _ string, grace time.Duration) error {
	await(ctx, grace, i.done, func() bool { return i.over() || i.idle() })
	i.cancel()
	if !await(ctx, stopPatience, i.done, i.over) {
		return errors.New("end session: a transfer or a command of the server's own does not stop")
	}
	return nil
}

func (i *inside) idle() bool { return i.sftp && time.Since(time.Unix(0, i.last.Load())) > idleAfter }

func (i *inside) over() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

// runInside runs work as a job of the table.
func (s *session) runInside(isSFTP bool, work func(*inside)) error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	i := &inside{channel: s.channel, ctx: ctx, cancel: cancel, done: make(chan struct{}), sftp: isSFTP}
	i.last.Store(time.Now().UnixNano())
	if err := s.Table.start(i, func() error { return nil }); err != nil {
		return err
	}
	defer s.Table.forget(i)
	defer close(i.done)
	work(i)
	return nil
}

// runBuiltin reports whether the server itself answered the command.
func (s *session) runBuiltin(command string) bool {
	if s.Builtin == nil {
		return false
	}
	handled := false
	err := s.runInside(false, func(i *inside) {
		stdout, stderr := s.streams()
		var exit int
		if handled, exit = s.Builtin(i.ctx, command, i, stdout, stderr); handled {
			s.sendExitStatus(exit)
			s.out.closeWrite()
		}
	})
	return err == nil && handled
}

// isInternalSFTP recognises the server's own subsystem, with or without
// options (sshd_config(5), Subsystem).
func isInternalSFTP(command string) bool {
	words := strings.Fields(command)
	return len(words) > 0 && words[0] == "internal-sftp"
}

// serveSFTP runs the server's own sftp for a subsystem request. Where it is
// forced upon a shell or a command, there is nobody who speaks the protocol.
func (s *session) serveSFTP(wanted request) {
	if wanted.kind != "subsystem" {
		s.fail(failure{text: "This service allows sftp connections only.", exit: 1})
		return
	}
	var err error
	ending := s.runInside(true, func(i *inside) {
		if err = s.sftp(i, strings.Fields(wanted.command)[1:]); i.ctx.Err() != nil {
			err = nil // the client has left, or the server ends
		}
	})
	status := 0
	if err = errors.Join(ending, err); err != nil {
		s.Log.Warn("sftp session ended early", "error", err, "from", s.Remote)
		status = 1
	}
	s.sendExitStatus(status)
	s.out.closeWrite()
}

// sftp enters the jail and serves until the client has no more requests.
func (s *session) sftp(i *inside, args []string) error {
	options, err := sftp.ParseOptions(args)
	if err != nil {
		return err
	}
	options.Home, options.User, options.Log = s.Account.Home, s.Account.Name, s.Log.With("from", s.Remote)
	root, err := jail.Enter(s.Jail, defaultUmask)
	if err != nil {
		return err
	}
	defer root.Close()
	return sftp.Serve(i.ctx, i, root, options)
}
