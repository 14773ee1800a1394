package session

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

// cast writes an asciicast of version 2 (https://docs.asciinema.org): a line for
// the terminal, then a line for each thing that happens on it, all of it JSON.
type cast struct {
	w    io.Writer
	text decoder
	last time.Duration // of the newest event: they are in order
	line bytes.Buffer
}

type castHeader struct {
	Version   int               `json:"version"`
	Width     uint32            `json:"width"`
	Height    uint32            `json:"height"`
	Timestamp int64             `json:"timestamp"`
	Env       map[string]string `json:"env"`
}

// begin writes the first line.
func (c *cast) begin(size window, start time.Time, term, shell string) error {
	env := map[string]string{"TERM": term, "SHELL": shell}
	size = drawn(size)
	return c.encode(castHeader{2, size.Columns, size.Rows, start.Unix(), env})
}

// drawn is the size at which a player shows a terminal. One that said nothing
// of its size has none.
func drawn(size window) window {
	if size.Columns == 0 || size.Rows == 0 {
		return window{Columns: 80, Rows: 24}
	}
	return size
}

// output records what the terminal shows. A character that is cut in two
// is complete with the next output.
func (c *cast) output(at time.Duration, data []byte) error {
	return c.event(at, "o", c.text.decode(data))
}

func (c *cast) resize(at time.Duration, size window) error {
	size = drawn(size)
	return c.event(at, "r", strconv.Itoa(int(size.Columns))+"x"+strconv.Itoa(int(size.Rows)))
}

// mark is a remark for who watches it.
func (c *cast) mark(at time.Duration, text string) error { return c.event(at, "m", text) }

// end writes what is left of a character that never became complete.
func (c *cast) end() error { return c.event(c.last, "o", c.text.rest()) }

func (c *cast) event(at time.Duration, kind, text string) error {
	if text == "" {
		return nil
	}
	c.last = max(c.last, at)
	return c.encode([]any{json.Number(strconv.FormatFloat(c.last.Seconds(), 'f', 6, 64)), kind, text})
}

func (c *cast) encode(v any) error {
	c.line.Reset()
	e := json.NewEncoder(&c.line)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := c.w.Write(c.line.Bytes())
	return err
}

// decoder turns bytes in pieces of any size into valid UTF-8. What is not,
// becomes U+FFFD, one for each longest beginning of a character (Unicode
// Standard, section 3.9, table 3-8), which is asciinema's way, too.
type decoder struct {
	held []byte // the beginning of a character
}

func (d *decoder) decode(p []byte) string {
	p = append(d.held, p...)
	text := make([]byte, 0, len(p))
	for len(p) > 0 && utf8.FullRune(p) {
		n := 1
		if r, size := utf8.DecodeRune(p); r != utf8.RuneError || size > 1 {
			n = size
			text = append(text, p[:n]...)
		} else {
			n = beginning(p)
			text = utf8.AppendRune(text, utf8.RuneError)
		}
		p = p[n:]
	}
	d.held = bytes.Clone(p)
	return string(text)
}

// rest is what is held, as it will not become a character any more.
func (d *decoder) rest() string {
	if len(d.held) == 0 {
		return ""
	}
	d.held = nil
	return string(utf8.RuneError)
}

// beginning is how many bytes of p, which does not begin with a character, are
// the beginning of one; at least 1.
func beginning(p []byte) int {
	n := 1
	for n < min(len(p), utf8.UTFMax) && !utf8.FullRune(p[:n+1]) {
		n++
	}
	return n
}
