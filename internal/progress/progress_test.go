package progress

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// plain writes log lines without their time.
func plain(out *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func TestLog(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name   string
		total  int64
		step   int64
		length time.Duration
		want   []string
	}{
		{"short work is not worth a line", 100 * mib, mib, 4900 * time.Millisecond, nil},
		{"every five seconds", 20 * mib, mib, 12 * time.Second, []string{
			`level=INFO msg=packing done="4.0 MiB" total="20.0 MiB" percent=20 rate="819.2 KiB/s" left=20s`,
			`level=INFO msg=packing done="9.0 MiB" total="20.0 MiB" percent=45 rate="921.6 KiB/s" left=12s`,
		}},
		{"unknown total", 0, 0, 6 * time.Second, []string{`level=INFO msg=packing done="0 B" rate="0 B/s"`}},
		{"more than promised", mib, mib, 6 * time.Second, []string{
			`level=INFO msg=packing done="4.0 MiB" total="1.0 MiB" percent=100 rate="819.2 KiB/s" left=0s`,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				m := Start(&out, plain(&out), "packing", test.total)
				work := time.NewTimer(test.length)
				tick := time.NewTicker(time.Second + time.Millisecond)
				defer tick.Stop()
				for busy := true; busy; {
					select {
					case <-tick.C:
						m.Add(test.step)
					case <-work.C:
						busy = false
					}
				}
				m.Done()
				m.Done()
				want := ""
				if test.want != nil {
					want = strings.Join(test.want, "\n") + "\n"
				}
				if out.String() != want {
					t.Errorf("log\n%swant\n%s", out.String(), want)
				}
			})
		})
	}
}

func TestLine(t *testing.T) {
	s := state{what: "packing", total: 1 << 30, done: 1 << 28, elapsed: 8 * time.Second}
	tests := []struct {
		name  string
		state state
		width int
		want  string
	}{
		{"a quarter", s, 100, "packing [======>                 ] 25%  256.0 MiB of 1.0 GiB  32.0 MiB/s  24s left"},
		{"narrow", s, 12, "packing [==="},
		{"no width", s, -1, ""},
		{"hostile name", state{what: "a\x1b[2Jé\n", done: 5, elapsed: time.Second}, 100, "a?[2Jé?  5 B  5 B/s"},
		{"begin", state{what: "x", total: 10}, 100, "x [>                       ] 0%  0 B of 10 B  0 B/s"},
		{"gone on with", state{what: "x", total: 100, done: 60, from: 50, elapsed: 10 * time.Second}, 100, "x [==============>         ] 60%  60 B of 100 B  1 B/s  40s left"},
		{"end", state{what: "x", total: 10, done: 10, elapsed: time.Second, last: true}, 100, "x [========================] 100%  10 B of 10 B  10 B/s"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.state.line(test.width); got != test.want {
				t.Errorf("line\n%q, want\n%q", got, test.want)
			}
		})
	}
}

func TestTerminal(t *testing.T) {
	screen, terminal := openTerminal(t)
	var log bytes.Buffer
	m := Start(terminal, plain(&log), "packing", 10)
	lines := bufio.NewReader(screen)
	if first, err := lines.ReadString('K'); err != nil || !strings.Contains(first, "packing [>") {
		t.Errorf("first bar %q, error %v", first, err)
	}
	m.Of(10, 10)
	m.Done()
	rest, err := lines.ReadString('\n')
	if err != nil || !strings.Contains(rest, "100%  10 B of 10 B") {
		t.Errorf("last bar %q, error %v", rest, err)
	}
	if log.Len() > 0 {
		t.Errorf("logged %s", log.String())
	}
}

// openTerminal opens both ends of a pseudo-terminal (pts(4)).
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return screen, terminal
}
