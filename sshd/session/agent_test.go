package session

import (
	"errors"
	"testing"

	"golang.org/x/crypto/ssh/agent"
)

// lender is an Agent with an answer ready.
type lender struct {
	allow  bool
	socket string
	err    error
}

func (l lender) AllowAgent() bool       { return l.allow }
func (l lender) Agent() (string, error) { return l.socket, l.err }

func TestAgentRequest(t *testing.T) {
	for name, c := range map[string]struct {
		agent Agent
		want  string // what the job sees, "" if the request is not granted
	}{
		"none":        {nil, ""},
		"not allowed": {lender{socket: "/tmp/agent"}, ""},
		"allowed":     {lender{allow: true, socket: "/tmp/agent"}, "/tmp/agent\n"},
		"no place":    {lender{allow: true, err: errors.New("no place")}, "none\n"}, // as with sshd
	} {
		l := newLogin(t)
		l.Agent = c.agent
		s, err := dial(t, l).NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if granted := agent.RequestAgentForwarding(s) == nil; granted != (c.want != "") {
			t.Errorf("%s: granted %v", name, granted)
		}
		want := c.want
		if want == "" {
			want = "none\n"
		}
		if out, err := s.Output("echo ${SSH_AUTH_SOCK-none}"); string(out) != want || err != nil {
			t.Errorf("%s: the job sees %q, %v, want %q", name, out, err, want)
		}
	}
}

// Once the job runs it is too late.
func TestLateAgentRequest(t *testing.T) {
	l := newLogin(t)
	l.Agent = lender{allow: true, socket: "/tmp/agent"}
	r := open(t, dial(t, l))
	r.ask(t, true, "exec", text{"cat"})
	r.ask(t, false, "auth-agent-req@openssh.com", nil)
	r.CloseWrite()
	if _, requests := r.all(t); len(requests) == 0 {
		t.Error("no exit status")
	}
}
