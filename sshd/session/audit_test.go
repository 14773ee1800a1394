package session

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// events collects audit records.
type events struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (e *events) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.Write(p)
}

// find waits for the records of an event.
func (e *events) find(t *testing.T, event string, count int) (found []map[string]any) {
	t.Helper()
	eventually(t, event, func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		found = nil
		for line := range strings.Lines(e.text.String()) {
			var record map[string]any
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			if record["msg"] == event {
				found = append(found, record)
			}
		}
		return len(found) == count
	})
	return found
}

func TestAudit(t *testing.T) {
	for name, test := range map[string]struct {
		change       func(*Login)
		command      string
		started, end map[string]any
	}{
		"command": {nil, "cat; echo err >&2; exit 3",
			map[string]any{"kind": "exec", "command": "cat; echo err >&2; exit 3", "user": "root"},
			map[string]any{"exit": 3.0, "in": 5.0, "out": 5.0, "err": 4.0}},
		"killed": {nil, "cat >/dev/null; kill -9 $$", map[string]any{"kind": "exec"}, map[string]any{"signal": "KILL", "out": 0.0}},
		"forced": {func(l *Login) { l.Policy.ForceCommand = "cat" }, "rm\x1b[2J",
			map[string]any{"kind": "forced", "command": "cat", "asked": "exec", "original": "rm\x1b[2J"}, map[string]any{"exit": 0.0}},
		"long and odd": {nil, "true '\xff\u0085" + strings.Repeat("x", 5000) + "'",
			map[string]any{"command": `true '\xff\u0085` + strings.Repeat("x", maxAuditText-9) + "… (5010 bytes)"}, map[string]any{"exit": 0.0}},
	} {
		t.Run(name, func(t *testing.T) {
			l, log := newLogin(t), &events{}
			l.Audit = slog.New(slog.NewJSONHandler(log, nil))
			if test.change != nil {
				test.change(l)
			}
			run(t, dial(t, l), test.command, "input")
			started, ended := log.find(t, "session.started", 1)[0], log.find(t, "session.ended", 1)[0]
			for key, want := range test.started {
				if started[key] != want {
					t.Errorf("started: %s is %v, want %v", key, started[key], want)
				}
			}
			for key, want := range test.end {
				if ended[key] != want {
					t.Errorf("ended: %s is %v, want %v", key, ended[key], want)
				}
			}
			if ended["session"] != started["session"] {
				t.Errorf("sessions %v and %v", started["session"], ended["session"])
			}
		})
	}
}

func TestAuditOfSubsystemAndTerminal(t *testing.T) {
	l, log := newLogin(t), &events{}
	l.Audit = slog.New(slog.NewJSONHandler(log, nil))
	client := dial(t, l)
	r := open(t, client)
	r.ask(t, true, "subsystem", text{"sftp"})
	r.CloseWrite()
	r.all(t)
	if got := log.find(t, "session.started", 1)[0]; got["kind"] != "subsystem" || got["subsystem"] != "sftp" {
		t.Errorf("sftp: %v", got)
	}
	r = open(t, client)
	r.ask(t, true, "pty-req", ptyRequest{Term: "xterm"})
	r.ask(t, true, "exec", text{"true"})
	r.all(t)
	if got := log.find(t, "session.started", 2)[1]; !strings.HasPrefix(got["tty"].(string), "/dev/pts/") || got["term"] != "xterm" {
		t.Errorf("terminal: %v", got)
	}
}
