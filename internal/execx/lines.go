package execx

import (
	"bytes"
	"context"
	"os/exec"
)

// MaxLine is the longest line, in bytes, that RunLines hands on in one piece.
const MaxLine = 8 << 10

// RunLines is Run with both outputs of the program given to line, one line at
// a time and without its end, in the order written. A line longer than MaxLine
// comes in pieces. line is called from one goroutine, and not after the return.
func RunLines(ctx context.Context, cmd *exec.Cmd, line func(string)) error {
	return Watch(ctx, cmd, line, nil)
}

// Watch is RunLines for who also wants to see how the program is doing:
// started is told its process id as soon as there is one.
func Watch(ctx context.Context, cmd *exec.Cmd, line func(string), started func(pid int)) error {
	out := &splitter{line: line}
	cmd.Stdout, cmd.Stderr = out, out // one value: exec then uses one pipe, which keeps the order
	err := run(ctx, cmd, started)
	out.flush()
	return err
}

// splitter cuts a stream into lines. It keeps at most one line of MaxLine bytes.
type splitter struct {
	line func(string)
	rest []byte
}

func (s *splitter) Write(data []byte) (int, error) {
	for _, b := range data {
		if b == '\n' {
			s.emit()
			continue
		}
		if len(s.rest) == MaxLine {
			s.emit()
		}
		s.rest = append(s.rest, b)
	}
	return len(data), nil
}

func (s *splitter) emit() {
	s.line(string(bytes.TrimSuffix(s.rest, []byte("\r"))))
	s.rest = s.rest[:0]
}

// flush hands on a last line that has no end.
func (s *splitter) flush() {
	if len(s.rest) > 0 {
		s.emit()
	}
}
