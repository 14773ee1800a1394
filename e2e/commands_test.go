package e2e

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// commands are the words that scripts have besides those of testscript;
// the package comment tells what they mean.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"daemon":     onlyAffirmed(2, 2, daemonCommand),
	"exits":      onlyAffirmed(2, math.MaxInt, exitsCommand),
	"freeport":   onlyAffirmed(1, 1, freePortCommand),
	"minirootfs": onlyAffirmed(1, 1, miniRootFSCommand),
	"mode":       modeCommand,
	"noemulator": onlyAffirmed(0, 0, noEmulatorCommand),
	"sidecar":    onlyAffirmed(0, 0, sidecarCommand),
	"signal":     onlyAffirmed(2, 2, signalCommand),
	"waitend":    onlyAffirmed(1, 1, waitEndCommand),
	"waitfile":   onlyAffirmed(1, 2, waitFileCommand),
	"waitport":   onlyAffirmed(1, 1, waitPortCommand),
}

// onlyAffirmed is a command that "!" cannot be put before, with between least and most arguments.
func onlyAffirmed(least, most int, run func(*testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command cannot be negated")
		}
		if len(args) < least || len(args) > most {
			ts.Fatalf("%d arguments, want %d to %d", len(args), least, most)
		}
		run(ts, args)
	}
}

func exitsCommand(ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func freePortCommand(ts *testscript.TestScript, args []string) {
	port, err := freePort()
	ts.Check(err)
	ts.Setenv(args[0], port)
}

func waitPortCommand(ts *testscript.TestScript, args []string) {
	if err := poll(func() bool { return accepts(args[0]) }); err != nil {
		ts.Fatalf("%s accepts no connection: %v", args[0], err)
	}
}

func waitFileCommand(ts *testscript.TestScript, args []string) {
	pattern := regexp.MustCompile("")
	if len(args) == 2 {
		var err error
		pattern, err = regexp.Compile("(?m)" + args[1])
		ts.Check(err)
	}
	var content []byte
	err := poll(func() bool {
		var err error
		content, err = os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && pattern.Match(content)
	})
	if err != nil {
		ts.Fatalf("%s: %v; it holds:\n%s", args[0], err, content)
	}
}

// modeCommand compares all twelve permission bits, as chmod(1) writes them.
func modeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: mode FILE PERMISSIONS")
	}
	want, err := strconv.ParseUint(args[1], 8, 12)
	ts.Check(err)
	info, err := os.Lstat(ts.MkAbs(args[0]))
	ts.Check(err)
	got := permissions(info)
	if (got == uint32(want)) == neg {
		ts.Fatalf("%s has mode %04o", args[0], got)
	}
}

func permissions(info fs.FileInfo) uint32 {
	return info.Sys().(*syscall.Stat_t).Mode & 0o7777
}

func signalCommand(ts *testscript.TestScript, args []string) {
	signal := unix.SignalNum("SIG" + args[0])
	if signal == 0 {
		ts.Fatalf("no such signal: %s", args[0])
	}
	sent := 0
	for _, command := range ts.BackgroundCmds() {
		if strings.Contains(strings.Join(command.Args, " "), args[1]) {
			ts.Check(command.Process.Signal(signal))
			sent++
		}
	}
	if sent != 1 {
		ts.Fatalf("%d background commands contain %q, want one", sent, args[1])
	}
}

func daemonCommand(ts *testscript.TestScript, args []string) {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	if ended(pid) {
		ts.Fatalf("there is no process %d", pid)
	}
	ts.Setenv(args[1], strconv.Itoa(pid))
	ts.Defer(func() {
		if !ended(pid) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
}

func waitEndCommand(ts *testscript.TestScript, args []string) {
	pid, err := strconv.Atoi(args[0])
	ts.Check(err)
	if err := poll(func() bool { return ended(pid) }); err != nil {
		ts.Fatalf("process %d has not ended: %v", pid, err)
	}
}

// ended tells whether a process has, which its parent may not have noticed.
func ended(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}
