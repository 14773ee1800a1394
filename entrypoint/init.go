package entrypoint

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that an operator or a container engine sends to
// process 1 and means for the program.
var forwarded = []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT,
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT}

// NameProcess calls the process what its user called it. One that was started as
// /proc/self/exe is "exe" to ps(1), pgrep(1) and ss(8).
func NameProcess(program string) {
	os.WriteFile("/proc/self/comm", []byte(filepath.Base(program)), 0) // a name, and no more
}

// Init is process 1 of a container: it starts the program again as its
// child, forwards signals to it, collects every orphan, and returns the exit
// code of the child, 128 and the signal's number if one killed it.
//
// The real program must not do this itself: a wait for any child takes the
// exit statuses away from os/exec, which waits for particular ones.
func Init(argv []string, stderr io.Writer) int {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, append(forwarded, unix.SIGCHLD)...)
	child, err := os.StartProcess("/proc/self/exe", argv, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Env:   os.Environ(),
	})
	if err != nil {
		fmt.Fprintf(stderr, "buildenv: start as the child of process 1: %v\n", err)
		return exitFailed
	}
	for s := range signals {
		if s != unix.SIGCHLD {
			child.Signal(s)
		} else if code, ended := reap(child.Pid); ended {
			return code
		}
	}
	return exitFailed
}

// reap collects all children that have ended and tells whether the one was
// among them.
func reap(pid int) (code int, ended bool) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || got <= 0 {
			return code, ended
		}
		if got == pid {
			code, ended = exitCode(status), true
		}
	}
}

// exitCode is the shell's convention for what a process ended with.
func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
