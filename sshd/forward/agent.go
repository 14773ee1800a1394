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

var agentEvent = event{direction: "remote", kind: "agent"}

// AllowAgent reports whether the client may have its agent forwarded, and notes
// it if not. It does not wait for anything.
func (f *Forwarder) AllowAgent() bool {
	if !f.config.Policy.Agent {
		f.refused(agentEvent, "not permitted")
	}
	return f.config.Policy.Agent
}

// Agent gives the path, inside the jail, of a socket on which the client's agent
// answers. Like sshd's it is one for all sessions of a connection and goes with
// that: what a session leaves in the background may still need it.
func (f *Forwarder) Agent() (socket string, err error) {
	if !f.config.Policy.Agent {
		return "", errors.New("agent forwarding is not permitted")
	}
	f.agentMu.Lock()
	defer f.agentMu.Unlock()
	if f.agent != "" {
		return f.agent, nil
	}
	b, err := f.add(f.bindAgent)
	if err != nil {
		f.refused(agentEvent, err.Error())
		return "", fmt.Errorf("forward agent: %w", err)
	}
	f.agent = b.path
	f.config.Audit.Info("forward.listening", b.attrs()...)
	f.serve(b)
	return f.agent, nil
}

func (f *Forwarder) bindAgent() (*bound, error) {
	b := &bound{event: agentEvent, opening: AgentChannel, failed: f.failed, payload: func(net.Conn) []byte { return nil }}
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
// there is his, and stays, and the directory with it. It runs inside the jail.
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
	if gone := os.Remove(dir); !errors.Is(gone, unix.ENOTEMPTY) {
		err = errors.Join(err, gone)
	}
	return err
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
