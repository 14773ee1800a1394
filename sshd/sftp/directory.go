package sftp

import (
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// maxEntries is how many entries one reply lists, as OpenSSH's. With names of
// 255 bytes, account names of maxAccountName and each name twice it stays well
// below maxPacket.
const maxEntries = 100

func (s *session) opendir(in *decoder, out *packet) error {
	name := in.string()
	if err := in.err(); err != nil {
		return err
	}
	s.say(LogInfo, "opendir %s", quoted(name))
	h := &handle{name: name, directory: true}
	if err := s.openHandle(h, unix.O_RDONLY|unix.O_DIRECTORY, 0, out); err != nil {
		return err
	}
	s.accounts = s.readAccounts()
	return nil
}

func (s *session) readdir(in *decoder, out *packet) error {
	n := in.handle()
	if err := in.err(); err != nil {
		return err
	}
	d, err := s.handles.directory(n)
	if err != nil {
		return err
	}
	for {
		names, err := d.names()
		if err != nil {
			return err
		}
		entries, err := s.lstatAll(d, names)
		if err != nil {
			return err
		}
		if len(entries) > 0 {
			out.entries(entries, s.accounts, time.Now())
			return nil
		}
	}
}

// names are those of the next entries, io.EOF after the last.
// The standard library hides "." and "..", which clients expect to see.
func (h *handle) names() ([]string, error) {
	var names []string
	if !h.dotsListed {
		h.dotsListed = true
		names = []string{".", ".."}
	}
	more, err := h.file.Readdirnames(maxEntries - len(names))
	if errors.Is(err, unix.ENOENT) { // the directory has been removed
		return nil, io.EOF
	}
	names = append(names, more...)
	if err == io.EOF && len(names) > 0 {
		err = nil
	}
	return names, err
}

// An entry is a name in a directory with what lstat says about it.
type entry struct {
	name string
	stat unix.Stat_t
}

// lstatAll leaves out entries that have vanished since they were listed. It
// works from the open directory, and inside the jail, where ".." of the root
// is the root.
func (s *session) lstatAll(d *handle, names []string) ([]entry, error) {
	entries := make([]entry, 0, len(names))
	err := s.inJail(func() error {
		return onDescriptor(d.file, func(fd int) error {
			for _, name := range names {
				e := entry{name: name}
				if unix.Fstatat(fd, name, &e.stat, unix.AT_SYMLINK_NOFOLLOW) == nil {
					entries = append(entries, e)
				}
			}
			return nil
		})
	})
	return entries, err
}

func (p *packet) entries(entries []entry, who accounts, now time.Time) {
	p.setKind(fxpName)
	p.u32(uint32(len(entries)))
	for i := range entries {
		e := &entries[i]
		p.string(e.name)
		p.string(longName(e, who, now))
		p.attrs(statAttrs(&e.stat))
	}
}
