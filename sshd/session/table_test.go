package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

func TestEndTellsAndHangsUpShells(t *testing.T) {
	l := newLogin(t)
	r := open(t, dial(t, l))
	r.ask(t, true, "pty-req", ptyRequest{Term: "xterm"})
	r.ask(t, true, "shell", nil)
	fmt.Fprint(r, "echo rea''dy; sleep 1000 & cat\n")
	readUntil(t, r, "ready")
	start := time.Now()
	if err := l.Table.End(t.Context(), "the image is complete", time.Minute); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	if out, _ := r.all(t); !strings.Contains(out, "\r\nthe image is complete\r\n") {
		t.Errorf("the user was told %q", out)
	}
}

// A shell may miss the first hang-up. This one does, and need not be killed for it.
func TestEndHangsUpAgain(t *testing.T) {
	l := newLogin(t)
	r := open(t, dial(t, l))
	r.ask(t, true, "pty-req", ptyRequest{Term: "xterm"})
	r.ask(t, true, "shell", nil)
	fmt.Fprint(r, "trap 'trap \"exit 7\" HUP' HUP; echo rea''dy; while :; do read -t 0.01 </dev/zero; done\n")
	readUntil(t, r, "ready")
	if err := l.Table.End(t.Context(), "", time.Minute); err != nil {
		t.Fatal(err)
	}
	_, requests := r.all(t)
	wantExit(t, requests, 7)
}

func readUntil(t *testing.T, r io.Reader, word string) {
	t.Helper()
	var seen strings.Builder
	for b := make([]byte, 1); !strings.Contains(seen.String(), word); seen.Write(b) {
		if _, err := r.Read(b); err != nil {
			t.Fatalf("%v after %q", err, seen.String())
		}
	}
}

func TestEndLetsCommandsFinish(t *testing.T) {
	l := newLogin(t)
	r := open(t, dial(t, l))
	marker := filepath.Join(t.TempDir(), "marker")
	r.ask(t, true, "exec", text{"echo ready; until [ -e " + marker + " ]; do read -t 0.01 </dev/zero; done; exit 0"})
	readUntil(t, r, "ready")
	ended := make(chan error, 1)
	go func() { ended <- l.Table.End(t.Context(), "", time.Minute) }()
	eventually(t, "ending", func() bool { l.Table.mu.Lock(); defer l.Table.mu.Unlock(); return l.Table.ending })
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	_, requests := r.all(t)
	wantExit(t, requests, 0)
}

func TestEndIsStrictWithTheStubborn(t *testing.T) {
	l := newLogin(t)
	client := dial(t, l)
	r := open(t, client)
	r.ask(t, true, "exec", text{"trap '' HUP TERM; echo $$; while :; do read -t 1 </dev/zero; done"})
	pid := readPID(t, r)
	background := open(t, client) // the leader ends, a job of its session does not
	background.ask(t, true, "exec", text{"set -m; (trap '' HUP; exec sleep 1000) >/dev/null 2>&1 & echo $$"})
	other := readPID(t, background)
	background.all(t)
	if err := l.Table.End(t.Context(), "", 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if len(processGroups(pid)) != 0 || len(processGroups(other)) != 0 {
		t.Error("something survived")
	}
	late := open(t, client)
	late.ask(t, true, "exec", text{"true"})
	errOut, _ := io.ReadAll(late.Stderr())
	if !strings.Contains(string(errOut), "the build environment is ending") {
		t.Errorf("a late session: %q", errOut)
	}
}

func TestEndOfIdleTransfers(t *testing.T) {
	l := newLogin(t)
	r := open(t, dial(t, l))
	r.ask(t, true, "subsystem", text{"sftp"})
	io.WriteString(r, "\x00\x00\x00\x05\x01\x00\x00\x00\x03")
	io.ReadFull(r, make([]byte, 9))
	start := time.Now()
	if err := l.Table.End(t.Context(), "", time.Minute); err != nil || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

// Who runs a command learns why it is ended; what finishes in time is not disturbed.
func TestEndTellsCommandsThatItEnds(t *testing.T) {
	l := newLogin(t)
	l.Policy.Subsystems["loop"] = "echo ready; exec sleep 1000"
	client := dial(t, l)
	for name, c := range map[string]struct {
		kind, command string
		want          string // on standard error
	}{
		"stubborn":  {"exec", "echo ready; exec sleep 1000", "the image is complete\n"},
		"subsystem": {"subsystem", "loop", ""},
		"quick":     {"exec", "trap 'exit 0' USR1; echo ready; while :; do read -t 0.01 </dev/zero; done", ""},
	} {
		l.Table.ending = false
		r := open(t, client)
		r.ask(t, true, c.kind, text{c.command})
		readUntil(t, r, "ready")
		grace := 10 * time.Millisecond
		if name == "quick" {
			grace = time.Minute
			r.ask(t, true, "signal", text{"USR1"})
		}
		if err := l.Table.End(t.Context(), "the image is complete", grace); err != nil {
			t.Fatal(err)
		}
		if said, _ := io.ReadAll(r.Stderr()); string(said) != c.want {
			t.Errorf("%s: told %q, want %q", name, said, c.want)
		}
	}
}

// deadChannel is that of a client which has stopped reading: its connection takes nothing.
type deadChannel struct {
	ssh.Channel
	asked chan struct{} // closed when somebody waits for the client
	gone  chan struct{} // closed when the connection is cut
}

func (c deadChannel) SendRequest(string, bool, []byte) (bool, error) {
	close(c.asked)
	<-c.gone
	return false, io.EOF
}
func (deadChannel) Read([]byte) (int, error)    { return 0, io.EOF }
func (deadChannel) Write(p []byte) (int, error) { return len(p), nil }
func (c deadChannel) Stderr() io.ReadWriter     { return c }
func (deadChannel) CloseWrite() error           { return nil }
func (deadChannel) Close() error                { return nil }

func TestADeadClientDoesNotHoldUpTheEnd(t *testing.T) {
	l := newLogin(t)
	c := deadChannel{asked: make(chan struct{}), gone: make(chan struct{})}
	s := newSession(l, c)
	_, job := s.begin("exec", ssh.Marshal(text{"exit 0"}))
	over := make(chan struct{})
	go func() { defer close(over); job() }()
	<-c.asked
	if err := l.Table.End(t.Context(), "", time.Minute); err != nil {
		t.Error(err)
	}
	if s.running().signal(unix.SIGTERM) {
		t.Error("a signal was sent to a process that has been reaped")
	}
	close(c.gone)
	<-over
}

// fakeJob ends when it is told to.
type fakeJob chan struct{}

func (j fakeJob) end(context.Context, string, time.Duration) error { close(j); return nil }

func (j fakeJob) over() bool {
	select {
	case <-j:
		return true
	default:
		return false
	}
}

func TestEndWaitsForStarts(t *testing.T) {
	var table Table
	slow, quick := make(fakeJob), make(fakeJob)
	begun, release, started := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		started <- table.start(slow, func() error { close(begun); <-release; return nil })
	}()
	<-begun
	if err := table.start(quick, func() error { return nil }); err != nil {
		t.Fatal("a slow start must not hold up another one:", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- table.End(t.Context(), "", time.Minute) }()
	eventually(t, "ending", func() bool { table.mu.Lock(); defer table.mu.Unlock(); return table.ending })
	close(release)
	if err := errors.Join(<-started, <-ended); err != nil {
		t.Fatal(err)
	}
	if !slow.over() || !quick.over() {
		t.Errorf("ended: slow %v, quick %v", slow.over(), quick.over())
	}
}

func TestEndDoesNotWaitForStartsForEver(t *testing.T) {
	var table Table
	begun, release := make(chan struct{}), make(chan struct{})
	var starter sync.WaitGroup
	starter.Go(func() {
		table.start(make(fakeJob), func() error { close(begun); <-release; return errors.New("not started") })
	})
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := table.End(ctx, "", time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("a start in progress: %v", err)
	}
	close(release)
	starter.Wait()
}

func TestEndOfNothing(t *testing.T) {
	if err := new(Table).End(t.Context(), "", time.Minute); err != nil {
		t.Error(err)
	}
}

func TestParseStat(t *testing.T) {
	for stat, want := range map[string][2]int{
		"12 (cat) S 1 10 9 0":       {10, 9},
		"12 (a) Z 1 2) R 1 10 9 0":  {10, 9},
		"12 (cat) Z 1 10 9 0":       {},
		"12 (cat) S 1":              {},
		"":                          {},
		"12 (cat) S 1 x 9 34816 12": {},
	} {
		pgrp, session, alive := parseStat([]byte(stat))
		if alive != (want[0] != 0) || alive && (pgrp != want[0] || session != want[1]) {
			t.Errorf("%q: %d %d %v", stat, pgrp, session, alive)
		}
	}
}
