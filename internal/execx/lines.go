package execx

import (
	"bytes"
	"context"
	"os/exec"
)

// MaxLine is the longest line, in bytes, that RunLines hands on in one piece.
const MaxLine = 8 << 10

// RunLines starts cmd in its own process group and waits for it. When ctx ends
// first, the whole group gets SIGTERM, then SIGKILL, and the error is the
// context's cause. When the program ends by itself, processes that it left in
// the background are left alone; EndGroup ends them. cmd must not be made by
// exec.CommandContext, which would kill the first process only.
//
// Both outputs of the program are given to line, one line at a time and without
// its end, in the order written. A line longer than MaxLine comes in pieces.
// line is called from one goroutine, and not after the return.
func RunLines(ctx context.Context, cmd *exec.Cmd, line func(string)) error {
	return Watch(ctx, cmd, line, nil)
}

// Watch is RunLines that also tells started, which may be nil, the program's
// process id as soon as there is one: it is the number of its group, too.
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
