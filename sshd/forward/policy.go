package forward

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"buildenv/internal/pattern"
)

// Policy is what a connection may forward. sshd_config(5) and the options of the
// key in authorized_keys (sshd(8)) decide it. The zero Policy forbids everything.
type Policy struct {
	LocalTCP, RemoteTCP       bool
	LocalSocket, RemoteSocket bool // Unix sockets
	Agent                     bool
	Open, Listen              []Permits // each must permit
}

// Permits are the HOST:PORT that may be opened, or listened on. Either part may
// be "*". Nil permits any, an empty list none.
type Permits []string

// unixPort is what sshd takes for the port of a path when it looks at
// PermitOpen, so that a list of hosts forbids all paths unless it has "*:*".
const unixPort = -2

// Opens reports whether a connection to host and port is permitted. Names are
// compared as they are written.
func (p Policy) Opens(host string, port int) bool { return p.LocalTCP && p.opens(host, port) }

// OpensSocket reports whether a connection to a Unix socket is permitted. As with
// sshd it is not, whatever was said about sockets, where TCP is not.
func (p Policy) OpensSocket(path string) bool {
	return p.LocalSocket && p.LocalTCP && p.opens(path, unixPort)
}

// Listens reports whether listening on host and port for the client is permitted.
// Hosts are patterns; one that names no address at all is "".
func (p Policy) Listens(host string, port int) bool {
	return p.RemoteTCP && all(p.Listen, port, func(permitted string) bool {
		return pattern.Match(permitted, strings.ToLower(host))
	})
}

// ListensOnSocket reports whether listening on a Unix socket is permitted. No
// list of permits has a say in it, as with sshd.
func (p Policy) ListensOnSocket() bool { return p.RemoteSocket }

func (p Policy) opens(host string, port int) bool {
	return all(p.Open, port, func(permitted string) bool { return permitted == "*" || permitted == host })
}

// all reports whether every list permits a port of a host that fits.
func all(lists []Permits, port int, fits func(host string) bool) bool {
	return !slices.ContainsFunc(lists, func(list Permits) bool {
		return list != nil && !slices.ContainsFunc(list, func(permit string) bool {
			host, permitted := splitPermit(permit)
			return (permitted == "*" || permitted == strconv.Itoa(port)) && fits(host)
		})
	})
}

func splitPermit(permit string) (host, port string) {
	host, port, err := net.SplitHostPort(permit)
	if err != nil {
		return "", "" // fits nothing
	}
	return host, port
}
