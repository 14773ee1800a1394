package session

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"buildenv/internal/fsx"
	"buildenv/internal/pattern"
)

// Limits on ~/.ssh/environment. OpenSSH has the first.
const (
	maxEnvironmentLines = 1000
	maxEnvironmentBytes = 64 << 10
)

// readEnvironment reads NAME=value lines (sshd(8), FILES, ~/.ssh/environment)
// whose names a list of patterns permits. Of lines that are none it complains in
// sshd's words. It never waits, whatever the file is.
func readEnvironment(name, permitted string) (env, complaints []string) {
	f, err := fsx.OpenRegular(name)
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	env, bad := parseEnvironment(f, permitted)
	for _, number := range bad {
		complaints = append(complaints, fmt.Sprintf("Bad line %d in %s", number, name))
	}
	return env, complaints
}

// parseEnvironment passes over what is not permitted, and over lines that are no
// entry, whose numbers it returns. Quotes have no meaning.
func parseEnvironment(r io.Reader, permitted string) (env []string, bad []int) {
	lines := bufio.NewScanner(io.LimitReader(r, maxEnvironmentBytes))
	for n := 0; n < maxEnvironmentLines && lines.Scan(); n++ {
		entry := strings.TrimLeft(lines.Text(), " \t")
		name, value, ok := strings.Cut(entry, "=")
		switch {
		case entry == "" || strings.HasPrefix(entry, "#") || strings.Contains(value, "\x00"):
		case !ok:
			bad = append(bad, n+1)
		case pattern.List(permitted, name) == pattern.Matched && !harmful(name):
			env = append(env, entry)
		}
	}
	return env, bad
}

// exposeAuthInfo writes what the client has proven where its job can read it
// (sshd_config(5), ExposeAuthInfo), and gives the file's name. It runs inside
// the jail.
func (l *Login) exposeAuthInfo() (string, error) {
	f, err := os.CreateTemp("/tmp", "sshauth.*") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = io.WriteString(f, l.AuthInfo)
	if err == nil && l.Account.UID != 0 {
		err = f.Chown(l.Account.UID, l.Account.GID)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// removeAuthInfo takes the file away again.
func (s *session) removeAuthInfo(name string) {
	if name == "" {
		return
	}
	err := s.within(func() error { return os.Remove(name) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Log.Warn("the file of SSH_USER_AUTH stays behind", "error", err, "from", s.Remote)
	}
}
