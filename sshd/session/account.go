package session

import (
	"bufio"
	"cmp"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"buildenv/internal/fsx"
	"buildenv/sshd/jail"
)

// maxPasswd bounds what is read of a passwd file, in bytes: the one in a jail
// is somebody else's.
const maxPasswd = 1 << 20

// defaultUmask is that of work inside this process.
const defaultUmask = 0o022

// Account is an entry of passwd(5).
type Account struct {
	Name        string
	UID, GID    int
	Home, Shell string
}

// Root is the account where there is no passwd file, as in a container image
// made from scratch. It has no shell of its own to prefer to an image root's.
var Root = Account{Name: "root", Home: "/root"}

// FindAccount looks name up in a passwd file. Lines that are not seven fields
// with numeric ids are passed over, as the C library does.
func FindAccount(passwd io.Reader, name string) (Account, bool) {
	lines := bufio.NewScanner(io.LimitReader(passwd, maxPasswd))
	for lines.Scan() {
		f := strings.Split(lines.Text(), ":")
		if len(f) != 7 || f[0] != name {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 31)
		gid, err2 := strconv.ParseUint(f[3], 10, 31)
		if err1 != nil || err2 != nil {
			continue
		}
		return Account{Name: name, UID: int(uid), GID: int(gid), Home: f[5], Shell: f[6]}, true
	}
	return Account{}, false
}

// place is where and with what a job starts, as found inside the jail.
type place struct {
	shell       string
	shellErr    error  // why the shell cannot be used, nil if it can
	directory   string // working directory
	homeErr     error  // why it is not the home directory
	hushedLogin bool   // ~/.hushlogin is there

	environment []string // entries of ~/.ssh/environment, permitted ones
	complaints  []string // about that file, for the user
	rc          []string // command that runs before the job, nil for none
	agent       string   // path of the socket of the client's agent, "" for none
	authInfo    string   // file that says what the client has proven, "" for none
}

// survey looks before anything starts: a missing directory and a missing shell
// would otherwise be one and the same error of execve(2).
func (l *Login) survey(forJob request) (place, error) {
	p := place{directory: l.Account.Home}
	err := l.within(func() error {
		p.shell, p.shellErr = findShell(l.shells())
		if p.homeErr = isDirectory(l.Account.Home); p.homeErr != nil {
			p.directory = "/"
		}
		p.hushedLogin = exists(path.Join(l.Account.Home, ".hushlogin"))
		p.rc = l.findRC(p.shell, forJob)
		if l.Policy.UserEnvironment != "" {
			p.environment, p.complaints = readEnvironment(path.Join(l.Account.Home, ".ssh/environment"), l.Policy.UserEnvironment)
		}
		if l.AuthInfo == "" {
			return nil
		}
		var err error
		if p.authInfo, err = l.exposeAuthInfo(); err != nil {
			l.Log.Warn("session without SSH_USER_AUTH", "error", err, "from", l.Remote)
		}
		return nil
	})
	return p, err
}

// within runs op inside the jail.
func (l *Login) within(op func() error) error {
	root, err := jail.Enter(l.Jail, defaultUmask)
	if err != nil {
		return err
	}
	defer root.Close()
	return root.Do(op)
}

// shells are the candidates in order. In a jail the account's shell is that of
// the server's image, if it names one; the image root may have another one. One
// that may be there to refuse has no substitute. It runs inside the jail.
func (l *Login) shells() []string {
	own := l.Account.Shell
	if l.Jail == "" {
		return []string{cmp.Or(own, "/bin/sh")} // passwd(5)
	}
	var candidates []string
	if own != "" {
		candidates = append(candidates, own)
	}
	if !l.mayRunAnything() {
		return candidates
	}
	if a, ok := readAccount("/etc/passwd", l.Account.Name); ok && path.IsAbs(a.Shell) {
		candidates = append(candidates, a.Shell)
	}
	return append(candidates, "/bin/bash", "/bin/sh")
}

// readAccount never waits: the file may be anything, a FIFO for one.
func readAccount(passwd, name string) (Account, bool) {
	f, err := fsx.OpenRegular(passwd)
	if err != nil {
		return Account{}, false
	}
	defer f.Close()
	return FindAccount(f, name)
}

// findShell is the first candidate that exists. Without one it is the first
// candidate, with the reason.
func findShell(candidates []string) (string, error) {
	for _, shell := range candidates {
		if _, err := os.Stat(shell); err == nil {
			return shell, nil
		}
	}
	_, err := os.Stat(candidates[0])
	return candidates[0], err
}

func isDirectory(name string) error {
	info, err := os.Stat(name)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "chdir", Path: name, Err: unix.ENOTDIR}
	}
	return err
}
