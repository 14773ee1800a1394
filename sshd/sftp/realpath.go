package sftp

import (
	"cmp"
	"errors"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// The kernel's own bounds on resolving a path.
const (
	maxPath  = unix.PathMax
	maxLinks = 40
)

func (s *session) realpath(in *decoder, out *packet) error {
	name := in.string()
	if err := in.err(); err != nil {
		return err
	}
	s.say(LogVerbose, "realpath %s", quoted(cmp.Or(name, ".")))
	return s.replyResolved(name, out)
}

// replyResolved replies with the absolute path that has no links in it.
// An empty name is the start directory.
func (s *session) replyResolved(name string, out *packet) error {
	if name == "" {
		name = "."
	}
	var resolved string
	err := s.inJail(func() (err error) {
		resolved, err = resolve(s.absolute(name))
		return err
	})
	if err != nil {
		return err
	}
	out.name(resolved)
	return nil
}

// resolve follows the links of an absolute path. Unlike realpath(3) it lets
// the last component be missing, as OpenSSH does: clients ask for the path of
// a file that they are about to create.
func resolve(left string) (string, error) {
	resolved, links := "/", 0
	for left != "" {
		component, rest, more := strings.Cut(left, "/")
		left = rest
		switch component {
		case "", ".":
			continue
		case "..":
			resolved = path.Dir(resolved)
			continue
		}
		next := path.Join(resolved, component)
		if len(next)+len(left) >= maxPath {
			return "", unix.ENAMETOOLONG
		}
		target, err := readlink(next)
		switch {
		case err == nil:
			if links++; links > maxLinks {
				return "", unix.ELOOP
			}
			if strings.HasPrefix(target, "/") {
				resolved = "/"
			}
			if left = target; more {
				left += "/" + rest
			}
		case errors.Is(err, unix.EINVAL): // not a link
			resolved = next
		case errors.Is(err, unix.ENOENT) && !more:
			return next, nil
		default:
			return "", err
		}
	}
	return resolved, nil
}

func readlink(path string) (string, error) {
	buf := make([]byte, maxPath)
	n, err := unix.Readlink(path, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
