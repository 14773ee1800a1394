// Package execx runs helper programs so that they can be ended with all that
// they have started.
//
// A program may start others: a shell script does nothing else. Killing only
// the process that was started leaves the rest running inside an image root
// that is about to be packed. Every command therefore gets a process group of
// its own (setpgid(2)), and the group is what is ended.
package execx

import (
	"context"
	"errors"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Grace is how long a group may take to end after SIGTERM before SIGKILL
// comes, and how long output is awaited that a process left in the background
// still holds open.
const Grace = 3 * time.Second

// groupPoll is how often a group that is to end is looked at: the kernel tells
// nobody when the last member of a group has gone.
const groupPoll = 20 * time.Millisecond

// run starts cmd in its own process group and waits for it.
func run(ctx context.Context, cmd *exec.Cmd, started func(pid int)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	setGroup(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	if started != nil {
		started(cmd.Process.Pid)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if errors.Is(err, exec.ErrWaitDelay) {
			return nil
		}
		return err
	case <-ctx.Done():
		EndGroup(cmd.Process.Pid)
		<-ended
		return context.Cause(ctx)
	}
}

// setGroup asks for a new group; a new session (setsid(2)) is one already.
func setGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = !cmd.SysProcAttr.Setsid
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = Grace
	}
}

// EndGroup ends the process group that a program has led: SIGTERM, then
// SIGKILL. It returns when no process of the group is left or all have been
// killed. A member may change its group, by job control or as a daemon: such a
// process has left the job and is not looked for.
func EndGroup(group int) {
	unix.Kill(-group, unix.SIGTERM)
	tick := time.NewTicker(groupPoll)
	defer tick.Stop()
	patience := time.NewTimer(Grace)
	defer patience.Stop()
	for unix.Kill(-group, 0) == nil {
		select {
		case <-tick.C:
		case <-patience.C:
			unix.Kill(-group, unix.SIGKILL)
			return
		}
	}
}
