package scp

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"buildenv/internal/wording"
)

var errTooLong = errors.New("line too long")

// receiveAll is scp -t: it takes files until the client has no more.
func (t *transfer) receiveAll(targets []string) error {
	if len(targets) != 1 {
		return t.breakOff("ambiguous target")
	}
	target := targets[0]
	if t.Directory {
		if err := t.verifyDirectory(target); err != nil {
			return t.breakOff("%s: %s", target, wording.Reason(err))
		}
	}
	return t.receive(target, true)
}

func (t *transfer) verifyDirectory(name string) error {
	st, err := t.stat(name)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	return err
}

func (t *transfer) stat(name string) (st unix.Stat_t, err error) {
	err = t.inJail(func() error { return unix.Stat(t.at(name), &st) })
	return st, err
}

// receive takes the files for one directory, or one file under the name
// target, until the client says that these are all. How deep directories nest
// is bounded by the length of their path, which the kernel refuses.
func (t *transfer) receive(target string, top bool) error {
	if err := t.peer.accept(); err != nil {
		return err
	}
	into := t.verifyDirectory(target) == nil
	var times *times
	for first := top; ; first = false {
		line, err := t.nextRecord()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return t.breakOff("protocol error: %s", err)
		}
		switch line[0] {
		case responseError:
			t.failed = true
		case responseFatal:
			t.failed = true
			return errEnd
		case 'E':
			return t.peer.accept()
		case 'T':
			if times, err = parseTimes(line); err != nil {
				return t.breakOff("protocol error: %s", err)
			}
			err = t.peer.accept()
		case 'C', 'D':
			err = t.receiveOne(line, target, into, times)
			times = nil
		default:
			if first { // what a login script prints, for one
				return t.breakOff("%s", line)
			}
			err = errors.New("expected control record")
			return t.breakOff("protocol error: %s", err)
		}
		if err != nil {
			return err
		}
	}
}

// nextRecord is a line of the client's, io.EOF after the last.
func (t *transfer) nextRecord() (string, error) {
	first, err := t.peer.r.ReadByte()
	if err != nil {
		return "", io.EOF
	}
	if first == '\n' {
		return "", errors.New("unexpected <newline>")
	}
	line, err := t.peer.line(first, maxRecord)
	if err != nil && err != errTooLong {
		err = errors.New("lost connection")
	}
	t.tell("Sink: %s\n", line)
	return line, err
}

// receiveOne takes what a header announces. Its error ends the conversation.
func (t *transfer) receiveOne(line, target string, into bool, when *times) error {
	h, err := parseHeader(line)
	if err != nil {
		return t.breakOff("protocol error: %s", err)
	}
	if leadsElsewhere(h.name) {
		t.audit("receive", target, errors.New("unexpected file name"), "name", wording.UTF8(h.name))
		return t.breakOff("error: unexpected filename: %s", h.name)
	}
	h.mode &^= t.mask()
	name := target
	if into {
		name = strings.TrimSuffix(target, "/") + "/" + h.name
	}
	if !h.directory {
		return t.receiveFile(h, name, when)
	}
	if !t.Recursive {
		return t.breakOff("protocol error: received directory without -r")
	}
	return t.receiveDirectory(h, name, when)
}

func (t *transfer) receiveDirectory(h header, name string, when *times) error {
	st, err := t.stat(name)
	exists := err == nil
	switch {
	case exists && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return t.fail("%s: %s", name, wording.Reason(unix.ENOTDIR))
	case exists && t.Preserve:
		t.chmod(name, h.mode)
	case !exists: // with the right to write into it, until it is complete
		err = t.inJail(func() error { return unix.Mkdir(t.at(name), h.mode|unix.S_IRWXU) })
		t.audit("mkdir", name, err, "mode", fmt.Sprintf("%04o", h.mode))
		if err != nil {
			return t.fail("%s: %s", name, wording.Reason(err))
		}
	}
	if err := t.receive(name, false); err != nil {
		return err
	}
	if when != nil {
		t.utimes(name, when)
	}
	if t.Preserve || !exists {
		t.chmod(name, h.mode)
	}
	return nil
}

func (t *transfer) chmod(name string, mode uint32) error {
	return t.inJail(func() error { return unix.Chmod(t.at(name), mode) })
}

func (t *transfer) utimes(name string, when *times) error {
	tv := []unix.Timeval{when.accessed, when.modified}
	return t.inJail(func() error { return unix.Utimes(t.at(name), tv) })
}
