package session

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// onTerminal runs a command on a terminal and gives what it shows, once the
// session has written down how it ended.
func onTerminal(t *testing.T, l *Login, command string) string {
	t.Helper()
	r := open(t, dial(t, l))
	r.ask(t, true, "pty-req", ptyRequest{Term: "xterm", Columns: 90, Rows: 33})
	r.ask(t, true, "exec", text{command})
	out, _ := r.all(t)
	l.Table.Settle(time.Minute)
	return out
}

// readCast reads the only recording in a directory.
func readCast(t *testing.T, dir string) (file string, header map[string]any, output string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("recordings %v, %v", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		if header == nil {
			if err := json.Unmarshal([]byte(line), &header); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var e []any
		if err := json.Unmarshal([]byte(line), &e); err != nil || len(e) != 3 {
			t.Fatalf("event %q: %v", line, err)
		}
		if e[1] == "o" {
			output += e[2].(string)
		}
	}
	return files[0], header, output
}

func TestRecording(t *testing.T) {
	l := newLogin(t)
	l.Recordings.Dir = filepath.Join(t.TempDir(), "made when needed")
	const command = `printf 'gr\303'; sleep 0.1; printf '\274n \377 \033[31mred\n'`
	shown := onTerminal(t, l, command)
	file, header, output := readCast(t, l.Recordings.Dir)
	if want := "grün \ufffd \x1b[31mred\r\n"; output != want || shown != "gr\xc3\xbcn \xff \x1b[31mred\r\n" {
		t.Errorf("recorded %q, want %q; shown %q", output, want, shown)
	}
	env, _ := header["env"].(map[string]any)
	if header["version"] != 2.0 || header["width"] != 90.0 || header["height"] != 33.0 || env["TERM"] != "xterm" || env["SHELL"] != "/bin/bash" {
		t.Errorf("header %v", header)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || !strings.HasSuffix(file, ".cast") {
		t.Errorf("%s: %v, %v", file, info.Mode(), err)
	}
	if _, err := exec.LookPath("asciinema"); err != nil {
		t.Skip("needs asciinema to play it")
	}
	if played := play(t, file); played != output {
		t.Errorf("asciinema plays %q", played)
	}
}

// play is what asciinema makes of a recording. It wants a terminal of its own.
func play(t *testing.T, file string) string {
	t.Helper()
	shown := filepath.Join(t.TempDir(), "shown")
	player := exec.Command("script", "-qec", "asciinema cat '"+file+"' >"+shown, "/dev/null")
	player.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME="+t.TempDir())
	if out, err := player.CombinedOutput(); err != nil {
		t.Fatalf("asciinema: %v: %s", err, out)
	}
	text, err := os.ReadFile(shown)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRecordingLosesNothingWhenRequired(t *testing.T) {
	l := newLogin(t)
	l.Recordings = Recordings{Dir: t.TempDir(), Required: true}
	shown := onTerminal(t, l, "seq 200000")
	if _, _, output := readCast(t, l.Recordings.Dir); output != shown || len(shown) < 1_000_000 {
		t.Errorf("recorded %d bytes of %d shown", len(output), len(shown))
	}
}

func TestRecordingOfATerminalWithoutSize(t *testing.T) {
	l := newLogin(t)
	l.Recordings.Dir = t.TempDir()
	r := open(t, dial(t, l))
	r.ask(t, true, "pty-req", ptyRequest{Term: "dumb"})
	r.ask(t, true, "exec", text{"echo here"})
	r.all(t)
	l.Table.Settle(time.Minute)
	if _, header, _ := readCast(t, l.Recordings.Dir); header["width"] != 80.0 || header["height"] != 24.0 {
		t.Errorf("header %v", header)
	}
}

func TestNoRecordingWithoutATerminal(t *testing.T) {
	l := newLogin(t)
	l.Recordings = Recordings{Dir: filepath.Join(t.TempDir(), "none"), Required: true}
	if out, _, _ := run(t, dial(t, l), "echo ok", ""); out != "ok\n" {
		t.Errorf("got %q", out)
	}
	if _, err := os.Stat(l.Recordings.Dir); !os.IsNotExist(err) {
		t.Errorf("a folder for nothing: %v", err)
	}
}

// Where a recording cannot be written there is no terminal if it must be, and a
// warning otherwise. A folder in the jail would be its users' to change.
func TestUnwritableRecording(t *testing.T) {
	needRoot(t)
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	jail := t.TempDir()
	for name, test := range map[string]struct {
		dir, jail string
	}{"not a folder": {blocked, ""}, "in the jail": {filepath.Join(jail, "records"), jail}} {
		for _, required := range []bool{true, false} {
			l := newLogin(t)
			l.Jail, l.Recordings = test.jail, Recordings{Dir: test.dir, Required: required}
			if test.jail != "" {
				copyProgram(t, jail, "bash")
			}
			shown := onTerminal(t, l, "echo worked")
			if strings.Contains(shown, "worked") == required {
				t.Errorf("%s, required %v: %q", name, required, shown)
			}
			if required && !strings.Contains(shown, "record") {
				t.Errorf("%s: the user is told %q", name, shown)
			}
		}
	}
}
