package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// patience is how long a script waits for what must happen.
const patience = 30 * time.Second

// poll asks again and again until done says yes. A question costs next to
// nothing here, so the interval only bounds how much later the script goes on.
func poll(done func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("not within " + patience.String())
		}
	}
	return nil
}

func accepts(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// Ports are handed out from below the range that Linux takes outgoing
// connections from (ip_local_port_range), each once, beginning where another
// run of these tests most likely does not: a port that was found free stays free.
const (
	firstPort = 20000
	portCount = 10000
)

var nextPort atomic.Uint32

func freePort() (string, error) {
	offset := uint32(os.Getpid()) * 64
	for range portCount {
		port := strconv.Itoa(int(firstPort + (offset+nextPort.Add(1))%portCount))
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			return port, listener.Close()
		}
	}
	return "", errors.New("no free port")
}
