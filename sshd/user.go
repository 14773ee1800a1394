package sshd

import (
	"bufio"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"buildenv/internal/fsx"
	"buildenv/sshd/authkeys"
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
	groups []string
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
		return user{Account: session.Root, groups: []string{"root"}, known: true}, nil
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
	lines := bufio.NewScanner(io.LimitReader(f, maxText))
	for lines.Scan() {
		if password, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			return strings.HasPrefix(password, "!")
		}
	}
	return false
}

// groupsOf are the names of a user's groups.
func groupsOf(a session.Account) ([]string, error) {
	f, err := fsx.OpenRegular(groupFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up groups: %w", err)
	}
	defer f.Close()
	return findGroups(f, a), nil
}

// findGroups reads a group(5) file.
func findGroups(group io.Reader, a session.Account) []string {
	var names []string
	lines := bufio.NewScanner(io.LimitReader(group, maxText))
	for lines.Scan() {
		f := strings.Split(lines.Text(), ":")
		if len(f) == 4 && (f[2] == strconv.Itoa(a.GID) || slices.Contains(strings.Split(f[3], ","), a.Name)) {
			names = append(names, f[0])
		}
	}
	return names
}

// expand replaces the tokens of AuthorizedKeysFile and ChrootDirectory
// (sshd_config(5), TOKENS).
func (u user) expand(path string) string {
	return strings.NewReplacer("%%", "%", "%h", u.Home, "%u", u.Name, "%U", strconv.Itoa(u.UID)).Replace(path)
}

// criteria are what Match blocks and lists of users are decided on. No names
// are looked up for addresses, as with UseDNS no.
func (c *connection) criteria(u user) sshdconfig.Connection {
	address := addressOf(c.remote)
	return sshdconfig.Connection{
		User: u.Name, Groups: u.groups, InvalidUser: u.Name != "" && !u.known,
		Host: address, Address: address,
		LocalAddress: addressOf(c.local), LocalPort: int(c.local.Port()),
	}
}

func (c *connection) settings(u user) (sshdconfig.Settings, error) {
	return c.server.config.Settings.For(c.criteria(u))
}

// findKey looks for a key in the user's files. When it is in none, the error
// says what is wrong with the files, too.
func (c *connection) findKey(g grant, key ssh.PublicKey) (authkeys.Entry, error) {
	var problems []error
	for _, path := range g.keyFiles() {
		entries, err := c.readKeys(path, g)
		if err == nil {
			var entry authkeys.Entry
			if entry, err = authkeys.Authorize(entries, key, c.remote.Addr(), "", time.Now()); err == nil {
				return entry, nil
			}
			err = fmt.Errorf("%s: %w", path, err)
		}
		problems = append(problems, err)
	}
	return authkeys.Entry{}, errors.Join(problems...)
}

// keyFiles are the user's files of keys.
func (g grant) keyFiles() []string {
	var paths []string
	for _, name := range g.settings.AuthorizedKeysFiles {
		path := g.user.expand(name)
		if !filepath.IsAbs(path) {
			path = filepath.Join(g.user.Home, path)
		}
		paths = append(paths, path)
	}
	return paths
}

// warnOfNoKeys tells at the start that nobody could log in as things are: a file
// of keys that is missing, or has none, is not found out otherwise until
// somebody stands before the door.
func (s *rules) warnOfNoKeys(settings sshdconfig.Settings) {
	root, err := lookUp(session.Root.Name)
	reader := connection{server: s, complained: map[string]bool{}}
	g := grant{user: root, settings: settings}
	for _, path := range g.keyFiles() {
		entries, readErr := reader.readKeys(path, g)
		if len(entries) > 0 {
			return
		}
		if readErr == nil {
			readErr = fmt.Errorf("%s: no usable key", path)
		}
		err = errors.Join(err, readErr)
	}
	s.log.Warn("nobody can log in as long as no key is found", "reason", err)
}

// readKeys reads a file of keys, if nobody but its owner could have written it.
// Lines that cannot be used are logged, once for a client's many keys, and the
// others count.
func (c *connection) readKeys(path string, g grant) ([]authkeys.Entry, error) {
	f, err := fsx.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if g.settings.StrictModes {
		if err := authkeys.CheckOwnership(path, g.user.Home, g.user.UID); err != nil {
			return nil, err
		}
	}
	entries, problems := authkeys.Parse(f)
	if !c.complained[path] {
		c.complained[path] = true
		for _, p := range problems {
			c.server.log.Warn("authorized key not used", "file", path, "error", p)
		}
	}
	return entries, nil
}

// rsaBits is the size of an RSA key, 0 for other keys.
func rsaBits(key ssh.PublicKey) int {
	if wrapped, ok := key.(ssh.CryptoPublicKey); ok {
		if k, ok := wrapped.CryptoPublicKey().(*rsa.PublicKey); ok {
			return k.N.BitLen()
		}
	}
	return 0
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
func (s *rules) greeting(settings sshdconfig.Settings) string {
	text := s.config.LoginMessage
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
