package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// The next three are what gliderlabs/ssh v0.3.8 does wrong, by the line.

func TestWindowChangeBeforeShell(t *testing.T) {
	r := open(t, dial(t, newLogin(t)))
	within(t, "window changes before the shell", func() {
		r.ask(t, true, "pty-req", ptyRequest{Term: "xterm", Columns: 80, Rows: 24})
		for i := range uint32(200) {
			r.ask(t, true, "window-change", window{Columns: 100 + i, Rows: 40, Width: 800, Height: 600})
		}
		r.ask(t, true, "exec", text{"stty size"})
		if out, _ := r.all(t); strings.TrimSpace(out) != "40 299" {
			t.Errorf("size %q, want the last one", out)
		}
	})
}

func TestSignalsNeverBlockExit(t *testing.T) {
	r := open(t, dial(t, newLogin(t)))
	within(t, "exit after many signals", func() {
		r.ask(t, true, "exec", text{"trap '' USR1; echo ready; read line; exit 7"})
		line := make([]byte, 6)
		io.ReadFull(r, line)
		for range 100 {
			r.ask(t, true, "signal", text{"USR1"})
		}
		r.ask(t, false, "signal", text{"NONSENSE"})
		fmt.Fprintln(r, "go on")
		_, requests := r.all(t)
		wantExit(t, requests, 7)
	})
}

func TestLoaderVariablesNeverReachTheEnvironment(t *testing.T) {
	l := newLogin(t)
	l.Policy.AcceptEnv = []string{"*"}
	r := open(t, dial(t, l))
	r.ask(t, false, "env", struct{ Name, Value string }{"LD_PRELOAD", "/evil.so"})
	r.ask(t, false, "env", struct{ Name, Value string }{"BASH_ENV", "/evil"})
	r.ask(t, true, "env", struct{ Name, Value string }{"LANG", "C.UTF-8"})
	r.ask(t, true, "exec", text{"env"})
	out, _ := r.all(t)
	if strings.Contains(out, "evil") || !strings.Contains(out, "LANG=C.UTF-8\n") {
		t.Errorf("environment:\n%s", out)
	}
}

func wantExit(t *testing.T, requests []*ssh.Request, want uint32) {
	t.Helper()
	for _, q := range requests {
		var got struct{ Status uint32 }
		if q.Type == "exit-status" && ssh.Unmarshal(q.Payload, &got) == nil && got.Status == want {
			return
		}
	}
	t.Errorf("no exit-status %d in %d requests", want, len(requests))
}

func TestExitStatus(t *testing.T) {
	client := dial(t, newLogin(t))
	for command, want := range map[string]int{
		"true": 0, "false": 1, "exit 42": 42, "no-such-program": 127, "exit 255": 255, "/etc/passwd": 126, "": 0,
		"kill -KILL $$": -1,
	} {
		if _, _, got := run(t, client, command, ""); got != want {
			t.Errorf("%q: exit status %d, want %d", command, got, want)
		}
	}
}

func TestExitSignalOnTheWire(t *testing.T) {
	r := open(t, dial(t, newLogin(t)))
	r.ask(t, true, "exec", text{"kill -KILL $$"})
	_, requests := r.all(t)
	if len(requests) != 1 || requests[0].Type != "exit-signal" {
		t.Fatalf("requests %v, want one exit-signal", requests)
	}
	if want := "\x00\x00\x00\x04KILL\x00\x00\x00\x00\x00\x00\x00\x00\x00"; string(requests[0].Payload) != want {
		t.Errorf("payload %q, want %q", requests[0].Payload, want)
	}
}

// Clients take whatever came before EOF for the result, so the status must be
// there by then; and it comes at once, not after a background job's output.
func TestFrameOrder(t *testing.T) {
	for _, tty := range []bool{false, true} {
		t.Run(fmt.Sprintf("tty=%v", tty), func(t *testing.T) {
			r := open(t, dial(t, newLogin(t)))
			if tty {
				r.ask(t, true, "pty-req", ptyRequest{Term: "xterm"})
			}
			r.ask(t, true, "exec", text{"seq 10000; exit 3"})
			out, err := io.ReadAll(r)
			if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "10000") {
				t.Fatalf("output of %d bytes: %v", len(out), err)
			}
			select {
			case q := <-r.requests:
				wantExit(t, []*ssh.Request{q}, 3)
			default:
				t.Error("EOF came before exit-status")
			}
			within(t, "close after EOF", func() {
				for range r.requests {
				}
			})
		})
	}
}

func TestStatusComesBeforeBackgroundOutput(t *testing.T) {
	l := newLogin(t)
	r := open(t, dial(t, l))
	fifo := filepath.Join(t.TempDir(), "go")
	r.ask(t, true, "exec", text{"mkfifo " + fifo + "; (read x <" + fifo + "; echo late) & echo early; exit 5"})
	within(t, "status while a child holds the output", func() { wantExit(t, []*ssh.Request{<-r.requests}, 5) })
	eventually(t, "fifo", func() bool { return os.WriteFile(fifo, []byte("x\n"), 0) == nil })
	if out, _ := r.all(t); out != "early\nlate\n" {
		t.Errorf("output %q: something is lost", out)
	}
}

func TestOutputIsComplete(t *testing.T) {
	client := dial(t, newLogin(t))
	for size, rounds := range map[int]int{10 << 20: 1, 200 << 10: 20} { // the tail gets lost, if anything
		file := filepath.Join(t.TempDir(), "data")
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for range rounds {
			out, errOut, status := run(t, client, "cat "+file+" & cat "+file+" >&2; wait", "")
			if status != 0 || !same(out, data) || !same(errOut, data) {
				t.Fatalf("status %d, %d and %d bytes, want twice %d", status, len(out), len(errOut), len(data))
			}
			r := open(t, client)
			r.ask(t, true, "pty-req", ptyRequest{Term: "dumb", Modes: modes(70, 0)}) // OPOST off
			r.ask(t, true, "exec", text{"cat " + file})
			if out, _ := r.all(t); !same(out, data) {
				t.Fatalf("terminal: %d bytes, want %d", len(out), len(data))
			}
		}
	}
}

func same(got string, want []byte) bool { return sha256.Sum256([]byte(got)) == sha256.Sum256(want) }

func TestInput(t *testing.T) {
	client := dial(t, newLogin(t))
	big := strings.Repeat("x", 5<<20)
	if out, _, _ := run(t, client, "cat", big); out != big {
		t.Errorf("cat gave %d bytes, want %d", len(out), len(big))
	}
	unread := open(t, client)
	unread.ask(t, true, "exec", text{"exit 8"})
	go io.WriteString(unread, big)
	within(t, "exit with unread input", func() {
		_, requests := unread.all(t)
		wantExit(t, requests, 8)
	})
	r := open(t, client)
	r.ask(t, true, "exec", text{"exit 4"}) // and never an EOF from us
	within(t, "exit with open input", func() {
		_, requests := r.all(t)
		wantExit(t, requests, 4)
	})
}

func TestShellIsALoginShell(t *testing.T) {
	l := newLogin(t)
	l.Greeting = "hello from the server\n"
	client := dial(t, l)
	r := open(t, client)
	r.ask(t, true, "shell", nil)
	fmt.Fprintln(r, "echo $0 $PWD; exit")
	r.CloseWrite()
	if out, _ := r.all(t); out != "-bash "+l.Account.Home+"\n" {
		t.Errorf("without a terminal: %q", out)
	}
	r = open(t, client)
	r.ask(t, true, "pty-req", ptyRequest{Term: "xterm", Columns: 80, Rows: 24})
	r.ask(t, true, "shell", nil)
	fmt.Fprint(r, "tty; echo $TERM $SSH_TTY; exit\n")
	out, _ := r.all(t)
	if !strings.HasPrefix(out, "hello from the server\r\n") || !strings.Contains(out, "xterm /dev/pts/") {
		t.Errorf("with a terminal: %q", out)
	}
	if strings.Contains(out, "no job control") {
		t.Errorf("no controlling terminal: %q", out)
	}
	if err := os.WriteFile(filepath.Join(l.Account.Home, ".hushlogin"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r = open(t, client)
	r.ask(t, true, "pty-req", ptyRequest{Term: "xterm"})
	r.ask(t, true, "shell", nil)
	fmt.Fprint(r, "exit\n")
	if out, _ := r.all(t); strings.Contains(out, "hello from the server") {
		t.Errorf("hushed login: %q", out)
	}
}

func TestRequestsAreRefused(t *testing.T) {
	l := newLogin(t)
	l.Policy.PermitTTY = false
	r := open(t, dial(t, l))
	r.ask(t, false, "pty-req", ptyRequest{Term: "xterm"})
	r.ask(t, false, "window-change", window{})
	r.ask(t, false, "auth-agent-req@openssh.com", nil)
	r.ask(t, false, "x11-req", nil)
	r.ask(t, false, "signal", text{"TERM"})
	r.ask(t, false, "subsystem", text{"nonsense"})
	r.ask(t, false, "exec", nil) // malformed
	r.ask(t, true, "exec", text{"true"})
	r.ask(t, false, "exec", text{"true"})
}

func TestMaxSessions(t *testing.T) {
	l := newLogin(t)
	l.Policy.MaxSessions = 2
	client := dial(t, l)
	first := open(t, client)
	open(t, client)
	_, _, err := client.OpenChannel("session", nil)
	if refused, ok := err.(*ssh.OpenChannelError); !ok || refused.Message != "open failed" {
		t.Fatalf("third session: %v", err)
	}
	first.Close()
	eventually(t, "a place for another session", func() bool {
		ch, _, err := client.OpenChannel("session", nil)
		if err == nil {
			ch.Close()
		}
		return err == nil
	})
}

// A client that has seen one session close may open the next one at once.
func TestAClosedSessionDoesNotCount(t *testing.T) {
	l := newLogin(t)
	l.Policy.MaxSessions = 1
	l.Builtin = func(context.Context, string, io.Reader, io.Writer, io.Writer) (bool, int) { return true, 0 }
	client := dial(t, l)
	for range 20 {
		r := open(t, client)
		r.ask(t, true, "exec", text{"true"})
		r.all(t)
	}
	eventually(t, "no session", func() bool { return l.open.Load() == 0 })
	l.open.Store(1)
	closed := 0
	s := newSession(l, closeProbe{closed: func() {
		closed++
		if n := l.open.Load(); n != 0 {
			t.Errorf("%d sessions counted when the channel is closed", n)
		}
	}})
	s.close()
	s.close()
	if closed != 1 || l.open.Load() != 0 {
		t.Errorf("closed %d times, %d sessions counted", closed, l.open.Load())
	}
}

type closeProbe struct {
	ssh.Channel
	closed func()
}

func (c closeProbe) Close() error { c.closed(); return nil }

func TestForcedCommand(t *testing.T) {
	l := newLogin(t)
	l.Policy.ForceCommand = `echo "forced: ${SSH_ORIGINAL_COMMAND-none}"`
	client := dial(t, l)
	if out, _, _ := run(t, client, "rm -rf 'a  b'", ""); out != "forced: rm -rf 'a  b'\n" {
		t.Errorf("exec: %q", out)
	}
	r := open(t, client)
	r.ask(t, true, "shell", nil)
	if out, _ := r.all(t); out != "forced: none\n" {
		t.Errorf("shell: %q", out)
	}
	l2 := newLogin(t)
	l2.Policy.ForceCommand = "internal-sftp"
	out, errOut, status := run(t, dial(t, l2), "id", "")
	if out != "This service allows sftp connections only.\n" || errOut != "" || status != 1 {
		t.Errorf("forced sftp: %q, %q, status %d", out, errOut, status)
	}
}

func TestSubsystems(t *testing.T) {
	l := newLogin(t)
	l.Policy.Subsystems["hello"] = "echo hello $0"
	client := dial(t, l)
	r := open(t, client)
	r.ask(t, true, "subsystem", text{"hello"})
	if out, _ := r.all(t); out != "hello bash\n" {
		t.Errorf("external: %q", out)
	}
	r = open(t, client)
	r.ask(t, true, "subsystem", text{"sftp"})
	io.WriteString(r, "\x00\x00\x00\x05\x01\x00\x00\x00\x03") // SSH_FXP_INIT, version 3
	answer := make([]byte, 9)
	if _, err := io.ReadFull(r, answer); err != nil || answer[4] != 2 {
		t.Fatalf("sftp answers % x (%v), want SSH_FXP_VERSION", answer, err)
	}
	r.CloseWrite()
	_, requests := r.all(t)
	wantExit(t, requests, 0)
}

func TestBuiltin(t *testing.T) {
	l := newLogin(t)
	l.Builtin = func(_ context.Context, command string, stdin io.Reader, stdout, stderr io.Writer) (bool, int) {
		if command != "special" {
			return false, 0
		}
		in, _ := io.ReadAll(stdin)
		fmt.Fprintf(stdout, "got %s\n", in)
		fmt.Fprintln(stderr, "noted")
		return true, 9
	}
	client := dial(t, l)
	if out, errOut, status := run(t, client, "special", "input"); out != "got input\n" || errOut != "noted\n" || status != 9 {
		t.Errorf("special: %q %q %d", out, errOut, status)
	}
	if out, _, _ := run(t, client, "echo ordinary", ""); out != "ordinary\n" {
		t.Errorf("ordinary: %q", out)
	}
}

func TestPanicIsContained(t *testing.T) {
	l := newLogin(t)
	l.Builtin = func(_ context.Context, command string, _ io.Reader, _, _ io.Writer) (bool, int) {
		if command == "panic" {
			panic("as asked")
		}
		return false, 0
	}
	client := dial(t, l)
	r := open(t, client)
	r.ask(t, true, "exec", text{"panic"})
	within(t, "a channel whose handler panicked", func() { r.all(t) })
	if out, _, _ := run(t, client, "echo still here", ""); out != "still here\n" {
		t.Errorf("afterwards: %q", out)
	}
}

// OpenSSH leaves a command without terminal alone when its client leaves, and
// hangs a terminal up.
func TestClientLeaves(t *testing.T) {
	for _, tty := range []bool{false, true} {
		t.Run(fmt.Sprintf("tty=%v", tty), func(t *testing.T) {
			l := newLogin(t)
			r := open(t, dial(t, l))
			if tty {
				r.ask(t, true, "pty-req", ptyRequest{Term: "xterm"})
			}
			r.ask(t, true, "exec", text{"echo $$; exec sleep 1000"})
			pid := readPID(t, r)
			r.Close()
			if tty {
				eventually(t, "hang-up", func() bool { return len(processGroups(pid)) == 0 })
				return
			}
			for range r.requests {
			}
			if len(processGroups(pid)) == 0 {
				t.Fatal("the command is gone")
			}
			if err := l.Table.End(t.Context(), "", 0); err != nil {
				t.Fatal(err)
			}
			if len(processGroups(pid)) != 0 {
				t.Error("the command survived the end of the server")
			}
		})
	}
}

func readPID(t *testing.T, r io.Reader) int {
	t.Helper()
	line := make([]byte, 0, 16)
	for b := make([]byte, 1); len(line) < cap(line); line = append(line, b[0]) {
		if _, err := r.Read(b); err != nil || b[0] == '\n' {
			break
		}
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(line)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestEndOfWriteBreaksThePipe(t *testing.T) {
	r := open(t, dial(t, newLogin(t)))
	r.ask(t, true, "exec", text{"yes; echo status $? >&2"})
	io.CopyN(io.Discard, r, 100<<10)
	r.ask(t, true, "eow@openssh.com", nil)
	go io.Copy(io.Discard, r)
	within(t, "a writer nobody reads", func() {
		if out, _ := io.ReadAll(r.Stderr()); !strings.HasPrefix(string(out), "status 141") && !strings.Contains(string(out), "roken pipe") {
			t.Errorf("stderr %q", out)
		}
	})
}

// OpenSSH's client drops what it cannot write, and grants no window for it.
func TestEndOfWriteWithoutAWindow(t *testing.T) {
	r := open(t, dial(t, newLogin(t)))
	full := filepath.Join(t.TempDir(), "full")
	const windowAndPipe = 2<<20 + 64<<10
	r.ask(t, true, "exec", text{fmt.Sprintf("head -c %d /dev/zero; touch %s; exec yes", windowAndPipe+1, full)})
	eventually(t, "an exhausted window", func() bool { _, err := os.Stat(full); return err == nil })
	r.ask(t, true, "eow@openssh.com", nil)
	within(t, "a client that neither reads nor grants", func() {
		for range r.requests {
		}
	})
}

func TestNothingLeaks(t *testing.T) {
	l := newLogin(t)
	client := dial(t, l)
	run(t, client, "true", "")
	before := runtime.NumGoroutine()
	for i := range 50 {
		r := open(t, client)
		if i%2 == 0 {
			r.ask(t, true, "pty-req", ptyRequest{Term: "xterm"})
		}
		r.ask(t, true, "exec", text{"echo x; exec cat"})
		io.ReadFull(r, make([]byte, 1))
		r.Close()
	}
	eventually(t, "goroutines back to where they were", func() bool { return runtime.NumGoroutine() <= before })
	eventually(t, "an empty table", func() bool {
		l.Table.mu.Lock()
		defer l.Table.mu.Unlock()
		return len(l.Table.jobs) == 0
	})
}

func TestBackgroundJobHoldsTheSession(t *testing.T) {
	client := dial(t, newLogin(t))
	start := time.Now()
	if out, _, _ := run(t, client, "sleep 1 & echo hi", ""); out != "hi\n" || time.Since(start) < time.Second {
		t.Errorf("%q after %s: sshd waits for the end of output", out, time.Since(start))
	}
}
