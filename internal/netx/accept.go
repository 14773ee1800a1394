// Package netx has what the standard library's net leaves to its users.
package netx

import (
	"errors"
	"net"
	"time"
)

// acceptPause is how long to wait after an error of accept(2) that is not the
// end, too many open files for one: the next try would fail as well.
const acceptPause = 100 * time.Millisecond

// Accept hands every connection to serve, which must not wait, until l is closed.
// After another error it tells failed and tries again, until stop is closed.
func Accept(l net.Listener, stop <-chan struct{}, serve func(net.Conn), failed func(error)) {
	for {
		conn, err := l.Accept()
		if err == nil {
			serve(conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		failed(err)
		select {
		case <-time.After(acceptPause):
		case <-stop:
			return
		}
	}
}
