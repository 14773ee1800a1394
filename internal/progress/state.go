package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"
)

// state is what one report says.
type state struct {
	what    string
	total   int64 // bytes, 0 when unknown
	begin   time.Time
	from    int64 // bytes that were done before
	done    int64 // bytes
	elapsed time.Duration
	last    bool
}

// rate is the mean so far, in bytes a second.
func (s state) rate() float64 {
	if s.elapsed <= 0 {
		return 0
	}
	return float64(s.done-s.from) / s.elapsed.Seconds()
}

// part is how much is done, between 0 and 1. The total is a promise that the
// work may break: more than all is all.
func (s state) part() float64 { return min(max(float64(s.done)/float64(s.total), 0), 1) }

// left is the time to come when the rate stays, false when nobody can know.
func (s state) left() (time.Duration, bool) {
	if s.total <= 0 || s.done <= 0 || s.rate() <= 0 {
		return 0, false
	}
	seconds := max(float64(s.total-s.done), 0) / s.rate()
	return min(time.Duration(seconds)*time.Second, 99*time.Hour), true
}

// attributes are a log line's facts.
func (s state) attributes() []any {
	facts := []any{"done", size(s.done)}
	if s.total > 0 {
		facts = append(facts, "total", size(s.total), "percent", int(s.part()*100))
	}
	facts = append(facts, "rate", size(int64(s.rate()))+"/s")
	if left, ok := s.left(); ok {
		facts = append(facts, "left", left.String())
	}
	return facts
}

// draw replaces the terminal's line; the last one is ended.
func draw(f *os.File, s state) {
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	end := ""
	if s.last {
		end = "\n"
	}
	// "\x1b[K" clears what a longer line before has left (ECMA-48, EL).
	io.WriteString(f, "\r"+s.line(width-1)+"\x1b[K"+end)
}

const barWidth = 24

// line is the bar in at most width columns, for instance
//
//	packing [=========>              ] 41%  512.0 MiB of 1.2 GiB  48.1 MiB/s  15s left
func (s state) line(width int) string {
	var b strings.Builder
	b.WriteString(strings.Map(printable, s.what))
	if s.total > 0 {
		full := int(s.part() * barWidth)
		bar := strings.Repeat("=", full) + ">" + strings.Repeat(" ", barWidth)
		fmt.Fprintf(&b, " [%s] %d%%  %s of %s", bar[:barWidth], int(s.part()*100), size(s.done), size(s.total))
	} else {
		fmt.Fprintf(&b, "  %s", size(s.done))
	}
	fmt.Fprintf(&b, "  %s/s", size(int64(s.rate())))
	if left, ok := s.left(); ok && !s.last {
		fmt.Fprintf(&b, "  %s left", left)
	}
	line := []rune(b.String())
	return string(line[:min(len(line), max(width, 0))])
}

// printable keeps file names from steering the terminal.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}

// size writes bytes for people, as in "1.2 GiB".
func size(n int64) string {
	value, unit := float64(n), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}
