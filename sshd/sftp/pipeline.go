package sftp

import (
	"bufio"
	"context"
	"fmt"
	"io"
)

// parallelReads is how many reads of files run at once: enough to keep a disk
// or a network file system busy while a reply is being encrypted. Together
// with queueLength it bounds the memory of a session to about 4 MiB.
const (
	parallelReads = 4
	queueLength   = 4
)

// maxBatch is the size, in bytes, up to which replies that wait share one
// write. That is as much as one packet of SSH carries.
const maxBatch = 32 << 10

// receive passes packets on until the stream ends; nil is a clean end. Most of
// a large packet goes from the stream into its own buffer, past this one, and
// while a client is silent no packet is held.
func (s *session) receive(ctx context.Context, r io.Reader, received chan<- *packet) error {
	buffered := bufio.NewReader(r)
	for {
		if _, err := buffered.Peek(1); err == nil {
			s.activity.begin()
		}
		p, err := readPacket(buffered)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		select {
		case received <- p:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answerAll carries out requests until there are no more or the session ends.
func (s *session) answerAll(received <-chan *packet) error {
	for {
		select {
		case <-s.done:
			return errEnded
		case p, more := <-received:
			if !more {
				return nil
			}
			err := s.answer(p)
			p.free()
			if err != nil {
				return err
			}
		}
	}
}

// A queued reply has its place in the order of replies before it is whole.
type queued struct {
	packet *packet
	whole  <-chan struct{} // closed when it is
}

// schedule has a read carried out while the session goes on.
func (s *session) schedule(r fileRead) error {
	r.done = make(chan struct{})
	s.reading.Add(1)
	select {
	case s.reads <- r:
		return s.queue(r.reply, r.done)
	case <-s.done:
		s.reading.Done()
		return errEnded
	}
}

// readFiles carries out reads until the session ends.
func (s *session) readFiles() {
	for {
		select {
		case <-s.done:
			return
		case r := <-s.reads:
			if err := r.do(); err != nil {
				s.sayStatus(err)
			}
			r.reply.finish()
			close(r.done)
			s.reading.Done()
		}
	}
}

// whole is that of replies that are from the beginning.
var whole = func() <-chan struct{} {
	always := make(chan struct{})
	close(always)
	return always
}()

// send queues a reply that is whole.
func (s *session) send(p *packet) error {
	p.finish()
	return s.queue(p, whole)
}

func (s *session) queue(p *packet, whole <-chan struct{}) error {
	select {
	case s.replies <- queued{p, whole}:
		return nil
	case <-s.done:
		return errEnded
	}
}

// ended reports whether the session is over, for requests that take long.
func (s *session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// transmit writes replies until there are no more or the session ends.
func (s *session) transmit(w io.Writer) error {
	batch := make([]byte, 0, maxBatch)
	for {
		select {
		case <-s.done:
			return nil
		case q, more := <-s.replies:
			if !more {
				return nil
			}
			p := s.await(q)
			if p == nil {
				return nil
			}
			n, err := s.sendWith(w, p, batch)
			s.activity.end(n)
			if err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
	}
}

// sendWith sends a reply, and in the same write small ones that wait behind
// it: on the channel each write is a packet with its own cost. It returns how
// many replies those are.
func (s *session) sendWith(w io.Writer, p *packet, batch []byte) (n int, err error) {
	for n = 1; ; n++ {
		if len(batch)+len(p.b) > cap(batch) {
			break // p is large
		}
		batch = append(batch, p.b...)
		p.free()
		if p = s.nextReply(); p == nil {
			_, err = w.Write(batch)
			return n, err
		}
	}
	if len(batch) > 0 {
		_, err = w.Write(batch)
	}
	if err == nil {
		_, err = w.Write(p.b)
	}
	p.free()
	return n, err
}

// nextReply is the next in order, or nil if none is queued. The reader of a
// file may still be at work on it.
func (s *session) nextReply() *packet {
	select {
	case q, more := <-s.replies:
		if more {
			return s.await(q)
		}
	default:
	}
	return nil
}

// await is the packet of a reply once it is whole, or nil if the session ends before.
func (s *session) await(q queued) *packet {
	select {
	case <-q.whole:
		return q.packet
	case <-s.done:
		return nil
	}
}

// finish sends what is left to be sent after the client's last request.
func (s *session) finish(sent <-chan struct{}) {
	s.reading.Wait()
	close(s.replies)
	select {
	case <-sent:
	case <-s.done:
	}
}
