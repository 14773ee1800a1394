package forward

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// agentPrefix begins the name of the directories of agents' sockets, by which
// leftovers are found. Programs that look for an agent look for /tmp/ssh-*/agent.*.
const agentPrefix = "ssh-buildenv-"

// agentPlaces are where such a directory may be. The first that is a directory
// itself, not a link to one, is taken.
var agentPlaces = []string{"/tmp", "/run"}

// errNoPlace is returned when there is no directory for the socket of an agent.
var errNoPlace = fmt.Errorf("none of %v is a directory", agentPlaces)

// Agent makes a socket on which the client's agent answers, for one session. The
// path is one inside the jail. remove, which must be called, takes it away; it
// may be called more than once.
func (f *Forwarder) Agent() (socket string, remove func(), err error) {
	e := event{direction: "remote", kind: "agent"}
	if !f.config.Policy.Agent {
		f.refused(e, "not permitted")
		return "", nil, errors.New("agent forwarding is not permitted")
	}
	b, err := f.add(func() (*bound, error) { return f.bindAgent(e) })
	if err != nil {
		f.refused(e, err.Error())
		return "", nil, fmt.Errorf("forward agent: %w", err)
	}
	f.serve(b)
	remove = func() {
		f.drop(func(other *bound) bool { return other == b })
		b.close() // waits, if Stop is at it
	}
	return b.path, remove, nil
}

func (f *Forwarder) bindAgent(e event) (*bound, error) {
	b := &bound{event: e, opening: AgentChannel, failed: f.failed, payload: func(net.Conn) []byte { return nil }}
	err := within(f.config.Root, 0o077, func() error { return b.makeAgent() })
	if err != nil {
		return nil, err
	}
	b.bind = b.path
	b.remove = func() error {
		return within(f.config.Root, 0, func() error { return removeAgent(path.Dir(b.path)) })
	}
	return b, nil
}

// makeAgent makes a new directory that nobody else may enter, and a socket in
// it. It runs inside the jail.
func (b *bound) makeAgent() error {
	place, err := agentPlace()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(place, agentPrefix)
	if err != nil {
		return err
	}
	b.path = fmt.Sprintf("%s/agent.%d", dir, os.Getpid())
	unix.Umask(0o177) // this thread's only
	l, _, err := bindSocket(b.path)
	if err != nil {
		os.Remove(dir)
		return err
	}
	b.sockets = []net.Listener{l}
	return nil
}

func agentPlace() (string, error) {
	for _, place := range agentPlaces {
		if isDir(place) {
			return place, nil
		}
	}
	return "", errNoPlace
}

// isDir does not follow a link.
func isDir(name string) bool {
	info, err := os.Lstat(name)
	return err == nil && info.IsDir()
}

// removeAgent removes an agent's directory with its sockets. What a user has put
// there is his, and stays. It runs inside the jail.
func removeAgent(dir string) error {
	if !isDir(dir) {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Type() == fs.ModeSocket && strings.HasPrefix(entry.Name(), "agent.") {
			err = errors.Join(err, os.Remove(path.Join(dir, entry.Name())))
		}
	}
	return errors.Join(err, os.Remove(dir))
}

// Sweep removes the agents' sockets that a killed server has left in root, ""
// for the server's own. No server may be at work there.
func Sweep(root string) error {
	if _, err := os.Stat(root); root != "" && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return within(root, 0, func() error {
		var problems []error
		for _, place := range agentPlaces {
			if isDir(place) {
				problems = append(problems, sweep(place))
			}
		}
		return errors.Join(problems...)
	})
}

func sweep(place string) error {
	entries, err := os.ReadDir(place)
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), agentPrefix) {
			err = errors.Join(err, removeAgent(path.Join(place, entry.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("remove agents' sockets: %w", err)
	}
	return nil
}
