package netx

import (
	"errors"
	"net"
	"testing"
)

// script is a listener that gives answers in turn.
type script struct {
	net.Listener
	answers []error // nil for a connection
}

func (s *script) Accept() (net.Conn, error) {
	err := s.answers[0]
	s.answers = s.answers[1:]
	return nil, err
}

var errBusy = errors.New("too many open files")

func TestAccept(t *testing.T) {
	served, told := 0, 0
	l := &script{answers: []error{nil, errBusy, nil, nil, net.ErrClosed}}
	Accept(l, nil, func(net.Conn) { served++ }, func(error) { told++ })
	if served != 3 || told != 1 || len(l.answers) != 0 {
		t.Errorf("served %d, told %d, %d answers left", served, told, len(l.answers))
	}
}

func TestAcceptStops(t *testing.T) {
	stop := make(chan struct{})
	close(stop)
	l := &script{answers: []error{errBusy}}
	Accept(l, stop, nil, func(err error) {
		if err != errBusy {
			t.Errorf("told %v", err)
		}
	})
	if len(l.answers) != 0 {
		t.Error("it did not ask")
	}
}
