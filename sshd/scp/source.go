package scp

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"buildenv/internal/wording"
)

// modeBits are the part of a mode that is sent: the sticky bit is not.
const modeBits = unix.S_ISUID | unix.S_ISGID | 0o777

// sendAll is scp -f: the client says when to begin.
func (t *transfer) sendAll(names []string) error {
	if _, err := t.response(); err != nil {
		return err
	}
	for _, name := range names {
		if err := t.send(name); err != nil {
			return err
		}
	}
	return nil
}

// send sends one file, or a directory if that was asked for. Its error ends the
// conversation; a file that cannot be sent does not.
func (t *transfer) send(name string) error {
	for len(name) > 1 && name[len(name)-1] == '/' {
		name = name[:len(name)-1]
	}
	f, st, err := t.open(name)
	if err != nil {
		t.audit("send", name, err)
		return t.fail("%s: %s", name, wording.Reason(err))
	}
	defer f.Close()
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFREG:
		return t.sendFile(name, f, st)
	case kind == unix.S_IFDIR && t.Recursive:
		return t.sendDirectory(name, f, st)
	}
	return t.fail("%s: not a regular file", name)
}

// open never waits, whatever the name leads to.
func (t *transfer) open(name string) (*os.File, *unix.Stat_t, error) {
	var f *os.File
	var st unix.Stat_t
	err := t.inJail(func() error {
		fd, err := unix.Open(t.at(name), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return err
		}
		f = os.NewFile(uintptr(fd), name)
		return nil
	})
	return f, &st, err
}

func (t *transfer) sendFile(name string, f *os.File, st *unix.Stat_t) error {
	if ok, err := t.sendTimes(st); !ok || err != nil {
		return err
	}
	record := fmt.Sprintf("C%04o %d %s\n", st.Mode&modeBits, st.Size, oneLine(base(name)))
	t.tell("Sending file modes: %s", record)
	t.peer.w.WriteString(record)
	if ok, err := t.response(); !ok || err != nil {
		return err
	}
	sent, readErr, err := t.sendContent(f, st.Size)
	t.audit("send", name, cmp.Or(readErr, err), "bytes", sent)
	if err != nil {
		return err
	}
	if readErr != nil {
		t.fail("%s: %s", name, wording.Reason(readErr))
	} else {
		t.peer.w.WriteByte(responseOK)
	}
	_, err = t.response()
	return err
}

// sendContent sends as many bytes as were announced, zeros where the file has
// become shorter or cannot be read, for the client counts them.
func (t *transfer) sendContent(f *os.File, size int64) (sent int64, readErr, err error) {
	buf := make([]byte, min(size, bufferSize))
	for sent < size {
		chunk := buf[:min(size-sent, bufferSize)]
		n := 0
		if readErr == nil {
			if n, readErr = io.ReadFull(f, chunk); readErr == io.EOF || readErr == io.ErrUnexpectedEOF {
				readErr = unix.EPIPE // as OpenSSH reports it
			}
		}
		clear(chunk[n:])
		if _, err := t.peer.w.Write(chunk); err != nil {
			return sent, readErr, errEnd
		}
		sent += int64(len(chunk))
	}
	return sent, readErr, nil
}

// sendTimes precedes a file or directory with its times if they are to be kept.
func (t *transfer) sendTimes(st *unix.Stat_t) (ok bool, err error) {
	if !t.Preserve {
		return true, nil
	}
	fmt.Fprintf(t.peer.w, "T%d 0 %d 0\n", max(st.Mtim.Sec, 0), max(st.Atim.Sec, 0))
	return t.response()
}

func (t *transfer) sendDirectory(name string, f *os.File, st *unix.Stat_t) error {
	if ok, err := t.sendTimes(st); !ok || err != nil {
		return err
	}
	record := fmt.Sprintf("D%04o 0 %.1024s\n", st.Mode&modeBits, oneLine(base(name)))
	t.tell("Entering directory: %s", record)
	t.peer.w.WriteString(record)
	if ok, err := t.response(); !ok || err != nil {
		return err
	}
	if err := t.sendEntries(name, f); err != nil {
		return err
	}
	t.peer.w.WriteString("E\n")
	_, err := t.response()
	return err
}

// sendEntries keeps no more names in memory than one batch for each level.
func (t *transfer) sendEntries(name string, f *os.File) error {
	const batch = 100
	for {
		entries, err := f.Readdirnames(batch)
		for _, entry := range entries {
			below := strings.TrimSuffix(name, "/") + "/" + entry
			if len(below) >= unix.PathMax-1 {
				if err := t.fail("%s: name too long", below); err != nil {
					return err
				}
				continue
			}
			if err := t.send(below); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return t.fail("%s: %s", name, wording.Reason(err))
		}
	}
}

// oneLine is a name for a record, which a newline would end: vis(3) writes it so.
func oneLine(name string) string { return strings.ReplaceAll(name, "\n", `\^J`) }

// base is the last component of a path without a slash at its end; the root has
// none.
func base(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
