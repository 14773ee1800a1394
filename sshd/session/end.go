package session

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// steps end a process that does not end by itself. The stopped ones are
// continued, or they would never see the signal before it.
var steps = []struct {
	signals  []unix.Signal
	patience time.Duration
}{
	{[]unix.Signal{unix.SIGHUP, unix.SIGCONT}, 300 * time.Millisecond},
	{[]unix.Signal{unix.SIGTERM}, 500 * time.Millisecond},
	{[]unix.Signal{unix.SIGKILL}, 2 * time.Second},
}

func (p *process) end(ctx context.Context, message string, grace time.Duration) error {
	if p.isTTY {
		p.inform(message)
	}
	if !p.shell && !p.unattended.Load() {
		await(ctx, grace, p.ended, p.exited)
	}
	if !p.isTTY {
		p.inform(message)
	}
	left := steps
	if p.shell {
		if p.hangUp(ctx) {
			return nil
		}
		left = steps[1:]
	}
	for _, step := range left {
		if p.over() {
			return nil
		}
		signalSession(p.sid(), step.signals...)
		if await(ctx, step.patience, p.ended, p.over) {
			return nil
		}
	}
	return fmt.Errorf("end session: process %d and its children: still there after SIGKILL", p.sid())
}

// inform tells the user what happens to a process that is still there: who
// watches a terminal at once, others only if their command has to be ended.
func (p *process) inform(message string) {
	if p.tell != nil && !p.unattended.Load() && !p.exited() {
		p.tell(message)
	}
}

// How often, and after how long each time, a shell is hung up again.
const (
	hangUps     = 12
	hangUpPause = 25 * time.Millisecond
)

// hangUp is the first step for an interactive shell. It reports whether nothing
// is left of the shell's session. Between a command and the next prompt, which
// is where the user is who has just marked his work, bash may take note of the
// signal and then wait for input all the same. So it gets another one; its jobs
// do not, which may be busy with saving what they have.
func (p *process) hangUp(ctx context.Context) bool {
	signalSession(p.sid(), unix.SIGHUP, unix.SIGCONT)
	for range hangUps {
		if await(ctx, hangUpPause, p.ended, p.over) {
			return true
		}
		p.cmd.Process.Signal(unix.SIGHUP)
	}
	return false
}

// over: its leader has been reaped and no process of its session lives.
func (p *process) over() bool { return p.exited() && len(processGroups(p.sid())) == 0 }

// sid is the id of the session that the process leads. The kernel gives the
// number to nobody else while a process of the session lives.
func (p *process) sid() int { return p.cmd.Process.Pid }

func signalSession(sid int, numbers ...unix.Signal) {
	groups := processGroups(sid)
	for _, number := range numbers {
		for pgrp := range groups {
			unix.Kill(-pgrp, number) // it may have ended just now
		}
	}
}

// processGroups are the process groups of an operating-system session that
// have a living process. A shell with job control gives each job a group of
// its own, which only /proc tells.
func processGroups(sid int) map[int]bool {
	groups := map[int]bool{}
	proc, err := os.Open("/proc")
	if err != nil {
		return groups
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if of, err := unix.Getsid(pid); err != nil || of != sid {
			continue // most are not, and to read about each of them takes long
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		if pgrp, session, alive := parseStat(stat); alive && session == sid && pgrp > 1 {
			groups[pgrp] = true
		}
	}
	return groups
}

// parseStat reads proc_pid_stat(5): pid (name) state ppid pgrp session …; the
// name may contain anything, so the fields are counted from its last bracket.
func parseStat(stat []byte) (pgrp, session int, alive bool) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 4 || bytes.ContainsAny(fields[0], "ZXx") {
		return 0, 0, false
	}
	pgrp, err1 := strconv.Atoi(string(fields[2]))
	session, err2 := strconv.Atoi(string(fields[3]))
	return pgrp, session, err1 == nil && err2 == nil
}

// tellPatience bounds how long a client that does not read may hold up the end.
const tellPatience = 100 * time.Millisecond

// tell shows a message on the terminal, or as a line on standard error.
func (s *session) tell(message string) {
	_, stderr := s.streams()
	s.say(stderr, message)
}

// say does not wait long for a client that does not read.
func (s *session) say(w io.Writer, message string) {
	if s.tty != nil {
		message = "\n" + message
	}
	said := make(chan struct{})
	go func() { // ends when the client reads, or with the channel
		defer s.contain("message")
		defer close(said)
		fmt.Fprintln(w, message)
	}()
	select {
	case <-said:
	case <-time.After(tellPatience):
	}
}
