package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"buildenv/sshd/jail"
	"buildenv/sshd/sftp"
)

// inside is a job in this process: sftp, scp or a builtin.
type inside struct {
	ctx      context.Context
	cancel   context.CancelFunc
	done     chan struct{}
	activity *sftp.Activity // of an sftp session; a command has none and is busy to its end
}

// stopPatience is how long a job may take to return after its context ended.
const stopPatience = 2 * time.Second

func (i *inside) end(ctx context.Context, _ string, grace time.Duration) error {
	await(ctx, grace, i.done, func() bool { return i.over() || i.idle() })
	i.cancel()
	if !await(ctx, stopPatience, i.done, i.over) {
		return errors.New("end session: a transfer or a command of the server's own does not stop")
	}
	return nil
}

func (i *inside) idle() bool { return i.activity != nil && !i.activity.Busy() }

func (i *inside) over() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

// runInside runs work as a job of the table. A job with an activity may be
// ended as soon as it rests.
func (s *session) runInside(activity *sftp.Activity, work func(*inside)) error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	i := &inside{ctx: ctx, cancel: cancel, done: make(chan struct{}), activity: activity}
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
	err := s.runInside(nil, func(i *inside) {
		stdout, stderr := s.streams()
		var exit int
		if handled, exit = s.Builtin(i.ctx, command, s.channel, stdout, stderr); handled {
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
		stdout, _ := s.streams() // as sshd has it
		fmt.Fprintln(stdout, "This service allows sftp connections only.")
		s.sendExitStatus(1)
		s.out.closeWrite()
		return
	}
	var err error
	ending := s.runInside(new(sftp.Activity), func(i *inside) {
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
	options.Home, options.User = s.Account.Home, s.Account.Name
	options.Client, _ = Endpoint(s.Remote)
	options.Log, options.Stderr, options.Audit = s.Log.With("from", s.Remote), errorOutput{s.out}, s.Audit.With("session", s.number)
	options.Activity = i.activity
	root, err := jail.Enter(s.Jail, defaultUmask)
	if err != nil {
		return err
	}
	defer root.Close()
	return sftp.Serve(i.ctx, s.stream(), root, options)
}

// stream is the channel for what speaks a protocol on it.
func (s *session) stream() io.ReadWriter {
	return struct {
		io.Reader
		io.Writer
	}{s.channel, s.out}
}
