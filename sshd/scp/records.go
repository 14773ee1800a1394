package scp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// times of a file, as the client has sent them.
type times struct{ modified, accessed unix.Timeval }

// parseTimes reads "Tmtime usec atime usec". Times that the system cannot hold
// are left alone.
func parseTimes(line string) (*times, error) {
	var w times
	rest := line[1:]
	inRange := true
	for _, field := range []struct {
		name string
		time *unix.Timeval
	}{{"mtime", &w.modified}, {"atime", &w.accessed}} {
		sec, after, delimited := strings.Cut(rest, " ")
		if sec == "" || sec[0] < '0' || sec[0] > '9' {
			return nil, fmt.Errorf("%s.sec not present", field.name)
		}
		n, err := strconv.ParseInt(sec, 10, 64)
		if errors.Is(err, strconv.ErrRange) {
			inRange, err = false, nil
		}
		if err != nil || !delimited {
			return nil, fmt.Errorf("%s.sec not delimited", field.name)
		}
		usec, after, delimited := strings.Cut(after, " ")
		u, err := strconv.ParseUint(usec, 10, 32)
		if last := field.name == "atime"; err != nil || u > 999999 || delimited == last {
			return nil, fmt.Errorf("%s.usec not delimited", field.name)
		}
		*field.time, rest = unix.Timeval{Sec: n, Usec: int64(u)}, after
	}
	if !inRange {
		return nil, nil
	}
	return &w, nil
}

// A header announces a file or a directory.
type header struct {
	directory bool
	mode      uint32
	size      int64
	name      string
}

// parseHeader reads "Cmode size name" or "Dmode size name".
func parseHeader(line string) (header, error) {
	h := header{directory: line[0] == 'D'}
	mode, rest := line[1:min(5, len(line))], line[min(5, len(line)):]
	if len(mode) != 4 || strings.Trim(mode, "01234567") != "" {
		return h, errors.New("bad mode")
	}
	bits, err := strconv.ParseUint(mode, 8, 32)
	if err != nil {
		return h, errors.New("bad mode")
	}
	h.mode = uint32(bits)
	if !strings.HasPrefix(rest, " ") {
		return h, errors.New("mode not delimited")
	}
	size, name, delimited := strings.Cut(rest[1:], " ")
	if size == "" || size[0] < '0' || size[0] > '9' {
		return h, errors.New("size not present")
	}
	h.size, err = strconv.ParseInt(size, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return h, errors.New("size out of range")
	case err != nil || !delimited:
		return h, errors.New("size not delimited")
	}
	h.name = name
	return h, nil
}

// leadsElsewhere: a name is not that of something in the directory.
func leadsElsewhere(name string) bool {
	return name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00")
}
