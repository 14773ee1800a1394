package session

import (
	"fmt"
	"slices"
	"strings"

	"buildenv/internal/pattern"
)

// Limits on what one client may set. OpenSSH has the first; the second keeps
// execve(2) from failing with E2BIG later, where nobody could say why.
const (
	maxClientVariables = 128
	maxClientEnvBytes  = 128 << 10
)

// neverAccepted are names that make the dynamic loader, the C library or a
// shell run or read something of the user's choice. They are refused
// whatever AcceptEnv and PermitUserEnvironment say.
var neverAccepted = []string{
	"LD_*", "DYLD_*", "_RLD*", "GLIBC_TUNABLES", "MALLOC_*", "GCONV_PATH", "LOCPATH", "NLSPATH",
	"BASH_*", "ENV", "SHELLOPTS", "BASHOPTS", "IFS", "PS4", "CDPATH",
}

// acceptable reports whether a client may set name under the AcceptEnv
// patterns. What is never accepted is looked at first.
func acceptable(patterns []string, name string) bool {
	return !harmful(name) && matchAny(patterns, name)
}

// harmful reports whether nobody but the administrator may set name.
func harmful(name string) bool {
	return name == "" || strings.ContainsAny(name, "=\x00\n") || matchAny(neverAccepted, name)
}

func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return pattern.Match(p, name) })
}

// clientEnv collects the "env" requests of one session.
type clientEnv struct {
	accept    []string
	variables environment
	bytes     int
}

func (e *clientEnv) set(name, value string) bool {
	e.bytes += len(name) + len(value)
	if e.bytes > maxClientEnvBytes || len(e.variables) >= maxClientVariables ||
		strings.Contains(value, "\x00") || !acceptable(e.accept, name) {
		return false
	}
	e.variables.set(name, value)
	return true
}

// environment is a list of NAME=value without duplicates.
type environment []string

func (e *environment) set(name, value string) {
	entry := name + "=" + value
	i := slices.IndexFunc(*e, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	if i < 0 {
		*e = append(*e, entry)
		return
	}
	(*e)[i] = entry
}

// setPermitted leaves out what nobody but the administrator may set.
func (e *environment) setPermitted(entries []string) {
	for _, entry := range entries {
		if name, value, ok := strings.Cut(entry, "="); ok && !harmful(name) {
			e.set(name, value)
		}
	}
}

func (e *environment) setAll(entries []string) {
	for _, entry := range entries {
		if name, value, ok := strings.Cut(entry, "="); ok {
			e.set(name, value)
		}
	}
}

// rootPath is the search path of root's sessions, the value that the
// distributions build sshd with.
const rootPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environ is the whole environment of a job, in the order of OpenSSH's
// session.c (do_setup_env): later values win. Nothing is inherited from the
// server but the time zone: its environment holds the job's secrets.
func (s *session) environ(where place, original *string) []string {
	env := slices.Clone(s.env.variables)
	env.set("USER", s.Account.Name)
	env.set("LOGNAME", s.Account.Name)
	env.set("HOME", s.Account.Home)
	env.set("PATH", rootPath)
	env.set("MAIL", "/var/mail/"+s.Account.Name)
	env.set("SHELL", where.shell)
	if s.TimeZone != "" {
		env.set("TZ", s.TimeZone)
	}
	if s.tty != nil {
		env.set("TERM", s.term)
	}
	env.setPermitted(s.Policy.Environment)
	env.setAll(where.environment)
	env.setAll(s.Policy.SetEnv)
	remote, remotePort := Endpoint(s.Remote)
	local, localPort := Endpoint(s.Local)
	env.set("SSH_CLIENT", fmt.Sprintf("%s %d %d", remote, remotePort, localPort))
	env.set("SSH_CONNECTION", fmt.Sprintf("%s %d %s %d", remote, remotePort, local, localPort))
	if where.authInfo != "" {
		env.set("SSH_USER_AUTH", where.authInfo)
	}
	if s.tty != nil {
		env.set("SSH_TTY", s.tty.name)
	}
	if original != nil {
		env.set("SSH_ORIGINAL_COMMAND", *original)
	}
	if where.agent != "" {
		env.set("SSH_AUTH_SOCK", where.agent)
	}
	return env
}
