package execx

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRunLines(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	tests := []struct {
		name, script string
		want         []string
	}{
		{"nothing", ":", nil},
		{"both outputs in order", "echo one; echo two >&2; echo three", []string{"one", "two", "three"}},
		{"no final newline", "printf 'a\nb'", []string{"a", "b"}},
		{"empty lines and carriage returns", `printf '\n\r\nx\r\n'`, []string{"", "", "x"}},
		{"exactly the longest line", "printf '%s\n' " + long, []string{long}},
		{"longer comes in pieces", "printf '%sab\nc\n' " + long, []string{long, "ab", "c"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			err := RunLines(t.Context(), exec.Command("sh", "-c", test.script), func(line string) { got = append(got, line) })
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("lines %q, want %q", got, test.want)
			}
		})
	}
}

func TestRunReportsTheExitStatus(t *testing.T) {
	err := run(t.Context(), exec.Command("sh", "-c", "exit 7"), nil)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("error %v, want exit status 7", err)
	}
	if err := run(t.Context(), exec.Command("no-such-program-here"), nil); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("error %v, want exec.ErrNotFound", err)
	}
}

func TestRunDoesNotStartAfterTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the job is over")
	cancel(cause)
	cmd := exec.Command("true")
	if err := run(ctx, cmd, nil); !errors.Is(err, cause) || cmd.Process != nil {
		t.Errorf("error %v, process %v, want the cause and no process", err, cmd.Process)
	}
}

// Each script names a process that must end, once that process is there.
func TestCancelEndsTheWholeGroup(t *testing.T) {
	tests := []struct{ name, script string }{
		{"children", "sleep 1000 & echo $!; wait"},
		{"a child that ignores SIGTERM", "(trap '' TERM; sh -c 'echo $PPID'; while :; do sleep 1000; done) & wait"},
		{"a child that the shell has left", "(sleep 1000 & echo $!); exec sleep 1000"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			child := -1
			err := RunLines(ctx, exec.Command("sh", "-c", test.script), func(line string) {
				child = openProcess(t, line)
				cancel()
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want context.Canceled", err)
			}
			if !ends(child, 10*time.Second) {
				t.Error("the process is still there")
				unix.PidfdSendSignal(child, unix.SIGKILL, nil, 0)
			}
		})
	}
}

// openProcess is a descriptor of a process (pidfd_open(2)), which tells when
// it ends without asking over and over.
func openProcess(t *testing.T, pid string) int {
	number, err := strconv.Atoi(pid)
	if err != nil {
		t.Error(err)
		return -1
	}
	fd, err := unix.PidfdOpen(number, 0)
	if err != nil {
		t.Error(err)
		return -1
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func ends(process int, within time.Duration) bool {
	if process < 0 {
		return false
	}
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, int(within.Milliseconds()))
	return n == 1
}

func TestBackgroundProcessesAreNotAwaited(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 1000 & exit 0")
	cmd.Stdout, cmd.WaitDelay = new(bytes.Buffer), 10*time.Millisecond // a pipe, held open by sleep
	if err := run(t.Context(), cmd, nil); err != nil {
		t.Errorf("error %v, want none", err)
	}
	if err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL); err != nil {
		t.Errorf("the background process is gone: %v", err)
	}
}

func TestASessionKeepsItsGroup(t *testing.T) {
	cmd := exec.Command("sh", "-c", "echo $$; ps -o sid= -p $$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var lines []string
	pid := 0
	if err := Watch(t.Context(), cmd, func(line string) { lines = append(lines, strings.TrimSpace(line)) }, func(p int) { pid = p }); err != nil {
		t.Fatal(err)
	}
	if want := strconv.Itoa(pid); !slices.Equal(lines, []string{want, want}) {
		t.Errorf("process and session %q, want %s twice", lines, want)
	}
}
