package session

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// modes encodes opcode, argument pairs.
func modes(pairs ...uint32) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		v := pairs[i+1]
		b.Write([]byte{byte(pairs[i]), byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
	}
	return b.String() + "\x00"
}

func TestApplyModes(t *testing.T) {
	start := func() *unix.Termios {
		return &unix.Termios{Iflag: unix.ICRNL, Lflag: unix.ECHO | unix.ICANON, Oflag: unix.OPOST, Cflag: unix.CS8 | unix.B38400}
	}
	for _, c := range []struct {
		name  string
		modes string
		want  func(*unix.Termios)
	}{
		{"nothing", "", func(*unix.Termios) {}},
		{"flags off and on", modes(53, 0, 36, 0, 70, 0, 42, 1), func(t *unix.Termios) {
			t.Lflag, t.Iflag, t.Oflag = unix.ICANON, unix.IUTF8, 0
		}},
		{"characters", modes(1, 3, 3, 255), func(t *unix.Termios) { t.Cc[unix.VINTR], t.Cc[unix.VERASE] = 3, 0 }},
		{"speed", modes(128, 9600, 129, 9600), func(t *unix.Termios) { t.Cflag = unix.CS8 | unix.B9600 }},
		{"odd speed is passed over", modes(129, 54321), func(*unix.Termios) {}},
		{"unknown opcode is passed over", modes(99, 1, 53, 0), func(t *unix.Termios) { t.Lflag = unix.ICANON }},
		{"undefined opcode ends", modes(200, 1, 53, 0), func(*unix.Termios) {}},
		{"end ends", "\x00" + modes(53, 0), func(*unix.Termios) {}},
		{"cut short", "\x35\x00\x00", func(*unix.Termios) {}},
	} {
		got, want := start(), start()
		applyModes(got, c.modes)
		c.want(want)
		if *got != *want {
			t.Errorf("%s: %+v, want %+v", c.name, *got, *want)
		}
	}
}

func FuzzApplyModes(f *testing.F) {
	f.Add(modes(1, 3, 53, 0, 128, 38400, 129, 38400))
	f.Add("\xff")
	f.Add("\x01\x00\x00")
	f.Fuzz(func(t *testing.T, m string) {
		applyModes(new(unix.Termios), m) // must not panic, whatever a client sends
	})
}

func TestTerminalModesReachTheProgram(t *testing.T) {
	r := open(t, dial(t, newLogin(t)))
	r.ask(t, true, "pty-req", ptyRequest{Term: "xterm", Columns: 91, Rows: 17, Width: 910, Height: 340,
		Modes: modes(53, 0, 1, 7, 128, 9600, 129, 9600)})
	r.ask(t, false, "pty-req", ptyRequest{Term: "xterm"}) // one is enough
	r.ask(t, true, "exec", text{"stty -a"})
	out, _ := r.all(t)
	for _, want := range []string{"rows 17", "columns 91", "-echo ", "intr = ^G", "speed 9600 baud", " icanon"} {
		if !strings.Contains(out, want) {
			t.Errorf("stty does not say %q:\n%s", want, out)
		}
	}
}
