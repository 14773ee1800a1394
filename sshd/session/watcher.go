package session

import "golang.org/x/crypto/ssh"

// Watcher is a channel that wants to know what its session is about: "shell",
// "command" or "subsystem:NAME", whatever is forced in its place, and whether it
// has a terminal. It is told before the job starts and must not wait.
type Watcher interface {
	Began(kind string, tty bool)
}

// notify tells the watcher of a request to start the job.
func (s *session) notify(request string, payload []byte) {
	if s.watcher == nil {
		return
	}
	kind := request
	switch request {
	case "exec":
		kind = "command"
	case "subsystem":
		var v struct{ Name string }
		if ssh.Unmarshal(payload, &v) == nil {
			kind += ":" + v.Name
		}
	}
	s.watcher.Began(kind, s.tty != nil)
}
