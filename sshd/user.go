package sshd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"buildenv/internal/fsx"
	"buildenv/sshd/session"
	"buildenv/sshd/sshdconfig"
)

// Files of the server's own system, not of a jail.
const (
	passwdFile = "/etc/passwd"
	shadowFile = "/etc/shadow"
	groupFile  = "/etc/group"
	motdFile   = "/etc/motd"
)

// maxText bounds a banner, a message of the day, the group and the shadow file, in bytes.
const maxText = 1 << 20

// user is somebody who wants to log in.
type user struct {
	session.Account
	groups []group
	known  bool
}

// invalid is sshd's word before the name of a user that there is not.
func (u user) invalid() string {
	if u.known {
		return ""
	}
	return "invalid user "
}

// lookUp finds a user. Without a passwd file there is root, and nobody else.
func lookUp(name string) (user, error) {
	passwd, err := fsx.OpenRegular(passwdFile)
	if errors.Is(err, fs.ErrNotExist) && name == session.Root.Name {
		return user{Account: session.Root, groups: []group{{"root", 0}}, known: true}, nil
	}
	if err != nil {
		return user{}, fmt.Errorf("look up user: %w", err)
	}
	defer passwd.Close()
	account, ok := session.FindAccount(passwd, name)
	if !ok {
		return user{}, fmt.Errorf("user is not in %s", passwdFile)
	}
	groups, err := groupsOf(account)
	return user{Account: account, groups: groups, known: true}, err
}

// locked reports whether an account is locked in a shadow(5) file. Where there
// is none, it is not; an entry of "*" is one without a password.
func locked(shadow, name string) bool {
	f, err := fsx.OpenRegular(shadow)
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := entries(f); lines.Scan(); {
		if password, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			return strings.HasPrefix(password, "!")
		}
	}
	return false
}

// group is an entry of group(5).
type group struct {
	name string
	gid  int
}

// groupsOf are a user's groups.
func groupsOf(a session.Account) ([]group, error) {
	f, err := fsx.OpenRegular(groupFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up groups: %w", err)
	}
	defer f.Close()
	return findGroups(f, a)
}

// entries are the lines of a file like group(5): one may have thousands of members.
func entries(file io.Reader) *bufio.Scanner {
	lines := bufio.NewScanner(io.LimitReader(file, maxText+1))
	lines.Buffer(nil, maxText+2)
	return lines
}

// findGroups reads a group(5) file. One that is too large is an error: what is
// denied to a group must not be granted for want of looking.
func findGroups(file io.Reader, a session.Account) ([]group, error) {
	var groups []group
	read := 0
	for lines := entries(file); lines.Scan(); {
		if read += len(lines.Bytes()) + 1; read > maxText {
			return nil, fmt.Errorf("look up groups: %s has more than %d bytes", groupFile, maxText)
		}
		f := strings.Split(lines.Text(), ":")
		if len(f) != 4 || f[2] != strconv.Itoa(a.GID) && !slices.Contains(strings.Split(f[3], ","), a.Name) {
			continue
		}
		if gid, err := strconv.ParseUint(f[2], 10, 31); err == nil {
			groups = append(groups, group{f[0], int(gid)})
		}
	}
	return groups, nil
}

// Groups are the names of a user's groups, for the connection that a
// configuration is asked about; none for a user that there is not.
func Groups(user string) []string {
	u, err := lookUp(user)
	if err != nil {
		return nil
	}
	return u.groupNames()
}

// groupNames are what Match blocks and lists of groups see.
func (u user) groupNames() []string {
	var names []string
	for _, g := range u.groups {
		names = append(names, g.name)
	}
	return names
}

// expand replaces the tokens of AuthorizedKeysFile and ChrootDirectory
// (sshd_config(5), TOKENS).
func (u user) expand(path string) string {
	return strings.NewReplacer("%%", "%", "%h", u.Home, "%u", u.Name, "%U", strconv.Itoa(u.UID)).Replace(path)
}

// criteria are what Match blocks and lists of users are decided on.
func (c *connection) criteria(u user) sshdconfig.Connection {
	address := addressOf(c.remote)
	return sshdconfig.Connection{
		User: u.Name, Groups: u.groupNames(), InvalidUser: u.Name != "" && !u.known,
		Host: c.host(), Address: address,
		LocalAddress: addressOf(c.local), LocalPort: int(c.local.Port()),
	}
}

func (c *connection) settings(u user) (sshdconfig.Settings, error) {
	return c.server.config.Settings.For(c.criteria(u))
}

// banner is shown before authentication (sshd_config(5), Banner).
func (c *connection) banner(meta ssh.ConnMetadata) string {
	u, _ := lookUp(meta.User())
	u.Name = meta.User()
	s, err := c.settings(u)
	if err != nil || s.Banner == "" {
		return ""
	}
	return readText(s.Banner)
}

// greeting is shown when a shell starts on a terminal.
func (r *rules) greeting(settings sshdconfig.Settings) string {
	text := r.config.LoginMessage
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if settings.PrintMotd {
		text += readText(motdFile)
	}
	return text
}

// readText reads a file for people, "" if there is none.
func readText(name string) string {
	f, err := fsx.OpenRegular(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, maxText))
	return string(text)
}
