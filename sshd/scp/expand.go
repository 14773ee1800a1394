package scp

import (
	"bufio"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of what is looked at for one command in somebody else's image.
const (
	maxMatches = 100_000
	maxPasswd  = 1 << 20
)

var errTooMany = unix.E2BIG

// expandAll makes paths of the words of the command.
func (t *transfer) expandAll() ([]string, error) {
	var paths []string
	for _, w := range t.paths {
		expanded, err := t.expand(t.withHome(w))
		if err != nil {
			return nil, err
		}
		if paths = append(paths, expanded...); len(paths) > maxMatches {
			return nil, errTooMany
		}
	}
	return paths, nil
}

// withHome replaces a tilde. An unknown user's stays as it is.
func (t *transfer) withHome(w word) word {
	if !w.tilde {
		return w
	}
	home := t.opts.Home
	if w.user != "" {
		home = t.homeOf(w.user)
	}
	if home == "" {
		return w
	}
	w.text = home + w.text[len("~")+len(w.user):]
	w.match = escape(home) + w.match[strings.Index(w.match+"/", "/"):]
	return w
}

func escape(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if strings.IndexByte(special, c) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// homeOf looks a user up in the image's passwd(5).
func (t *transfer) homeOf(user string) string {
	f, st, err := t.open("/etc/passwd")
	if err != nil {
		return ""
	}
	defer f.Close()
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ""
	}
	lines := bufio.NewScanner(io.LimitReader(f, maxPasswd))
	for lines.Scan() {
		if fields := strings.Split(lines.Text(), ":"); len(fields) == 7 && fields[0] == user {
			return fields[5]
		}
	}
	return ""
}

// expand finds what a pattern matches, sorted. One that matches nothing is an
// ordinary path, as in a shell.
func (t *transfer) expand(w word) ([]string, error) {
	components, err := w.components()
	if err != nil || components == nil {
		return []string{w.text}, nil
	}
	matches := []string{""}
	for i, c := range components {
		last := i == len(components)-1
		if matches, err = t.descend(matches, c, last); err != nil {
			return nil, err
		}
	}
	if len(matches) == 0 {
		return []string{w.text}, nil
	}
	slices.Sort(matches)
	return matches, nil
}

// descend appends one component to each of the paths found so far. All but the
// last component are followed by a slash.
func (t *transfer) descend(dirs []string, component string, last bool) ([]string, error) {
	var found []string
	for _, dir := range dirs {
		names := []string{unescape(component)}
		if isPattern(component) {
			var err error
			if names, err = t.matching(dir, component, maxMatches-len(found)); err != nil {
				return nil, err
			}
		}
		for _, name := range names {
			switch {
			case !last:
				found = append(found, dir+name+"/")
			case t.exists(dir + name):
				found = append(found, dir+name)
			}
		}
	}
	return found, nil
}

func (t *transfer) exists(name string) bool {
	return t.inJail(func() error {
		var st unix.Stat_t
		return unix.Lstat(t.at(name), &st)
	}) == nil
}

// matching lists the names in a directory that match. Hidden ones have to be
// asked for.
func (t *transfer) matching(dir, component string, limit int) ([]string, error) {
	if dir == "" {
		dir = "."
	}
	f, st, err := t.open(dir)
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, nil
	}
	return readMatching(f, component, limit)
}

func readMatching(f *os.File, component string, limit int) ([]string, error) {
	var found []string
	for {
		names, err := f.Readdirnames(1000)
		for _, name := range names {
			hidden := name[0] == '.' && !strings.HasPrefix(unescape(component), ".")
			if matched, _ := path.Match(component, name); matched && !hidden {
				found = append(found, name)
			}
		}
		if len(found) > limit {
			return nil, errTooMany
		}
		if err != nil { // at the end, or what could be read of a broken one
			return found, nil
		}
	}
}

// isPattern: something in it is not escaped that path.Match knows.
func isPattern(component string) bool {
	for i := 0; i < len(component); i++ {
		switch component[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

func unescape(component string) string {
	var b strings.Builder
	for i := 0; i < len(component); i++ {
		if component[i] == '\\' && i+1 < len(component) {
			i++
		}
		b.WriteByte(component[i])
	}
	return b.String()
}
