package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"
)

// socket is a stream of the operating system, TCP or Unix.
type socket interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
}

// relay connects a channel with a socket until both directions have ended, each
// in its own time. A direction ends with the end of its source, or when its sink
// takes no more.
type relay struct {
	channel        ssh.Channel
	socket         socket
	closed         chan struct{} // closed when the client has closed the channel, or is gone
	received, sent atomic.Int64  // bytes from the client and to the client
}

// newRelay answers the channel's requests, of which none is known, until the
// client closes it.
func newRelay(channel ssh.Channel, requests <-chan *ssh.Request, s socket) *relay {
	r := &relay{channel: channel, socket: s, closed: make(chan struct{})}
	go func() { // ends with the channel
		ssh.DiscardRequests(requests)
		close(r.closed)
	}()
	return r
}

// run returns when both directions have ended, or ctx has. It leaves the socket
// closed. finish has to follow.
func (r *relay) run(ctx context.Context) error {
	defer r.socket.Close()
	defer context.AfterFunc(ctx, func() { r.socket.Close() })()
	in, out := make(chan error, 1), make(chan error, 1)
	go r.inward(in)
	go r.outward(out)
	var problems []error
	client := r.closed
	for in != nil || out != nil {
		select {
		case err := <-in:
			in, problems = nil, append(problems, err)
		case err := <-out:
			out, problems = nil, append(problems, err)
		case <-client: // it is not there to listen any more
			client = nil
			if out != nil {
				problems = append(problems, io.EOF)
			}
			r.socket.CloseRead()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return errors.Join(problems...)
}

// finish closes the channel and waits for the client to do the same, which ends
// the goroutines.
func (r *relay) finish() {
	r.channel.Close()
	<-r.closed
}

// inward is from the client. What the socket does not take any more is thrown
// away, lest the client waits for ever to be rid of it. It ends with the client's
// end of the channel.
func (r *relay) inward(done chan<- error) {
	refused, err := pump(r.socket, r.channel, &r.received)
	r.socket.CloseWrite()
	done <- err
	if refused {
		io.Copy(io.Discard, r.channel)
	}
}

// outward is to the client. It ends with the socket.
func (r *relay) outward(done chan<- error) {
	_, err := pump(r.channel, r.socket, &r.sent)
	r.channel.CloseWrite()
	done <- err
}

// bufferSize is two packets of a channel: each read of a socket costs a system
// call, and the rest is done packet by packet.
const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// pump copies until from has ended, or to refuses to take more.
func pump(to io.Writer, from io.Reader, count *atomic.Int64) (refused bool, err error) {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		n, err := from.Read(buffer[:])
		if n > 0 {
			n, err := to.Write(buffer[:n])
			count.Add(int64(n))
			if err != nil {
				return true, err
			}
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}
