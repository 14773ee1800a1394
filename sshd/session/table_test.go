package session

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
