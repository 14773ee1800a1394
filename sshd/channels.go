package sshd

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	glider "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"

	"buildenv/internal/pattern"
	"buildenv/sshd/session"
	"buildenv/sshd/sshdconfig"
)

// Bounds of the channels of a connection. One too many is refused; a client that
// does not even take the refusals, and asks on, is cut off.
const (
	maxChannels = 1024
	maxRefusals = 64
)

// channels are those of a connection, opened by either side: how many there are
// and how long nothing has passed through them.
type channels struct {
	c *connection

	known atomic.Int32 // open, being opened or being refused
	used  atomic.Int64 // when something passed through one of them, since c.began

	mu       sync.Mutex // protects the following
	timeouts []sshdconfig.ChannelTimeout
	unused   time.Duration // UnusedConnectionTimeout, 0 for none
	open     map[*channel]struct{}
	idle     *time.Timer // runs while none is open, nil for no timeout
	all      *time.Timer // looks for traffic on any of them, nil for no timeout
}

// begin puts the timeouts of a user who was let in into force. Before that there
// are no channels.
func (g *channels) begin(s sshdconfig.Settings) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = map[*channel]struct{}{}
	g.timeouts, g.unused = s.ChannelTimeouts, s.UnusedConnectionTimeout
	if g.unused > 0 {
		g.idle = time.AfterFunc(g.unused, g.endUnused)
	}
	for _, t := range g.timeouts {
		if t.Pattern == "global" && t.Idle > 0 && g.all == nil {
			g.all = time.AfterFunc(t.Idle, func() { g.endAll(t.Idle) })
		}
	}
}

// stop ends the timers, with the connection.
func (g *channels) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unused, g.timeouts = 0, nil
	for _, t := range []*time.Timer{g.idle, g.all} {
		if t != nil {
			t.Stop()
		}
	}
	for ch := range g.open {
		ch.setLimit(0)
	}
}

// limit is how long nothing may pass through a channel of some type
// (sshd_config(5), ChannelTimeout); the first pattern that matches counts.
func limit(timeouts []sshdconfig.ChannelTimeout, kind string) time.Duration {
	for _, t := range timeouts {
		if t.Pattern != "global" && pattern.Match(t.Pattern, kind) {
			return t.Idle
		}
	}
	return 0
}

// endUnused ends a connection without channels. The timer may have run out
// while the first one was being opened.
func (g *channels) endUnused() {
	g.mu.Lock()
	unused := len(g.open) == 0 && g.unused > 0
	g.mu.Unlock()
	if unused {
		g.c.server.log.Info("terminating inactive connection from " + g.c.who())
		g.c.end(endedUnused)
	}
}

// endAll closes all channels when nothing has passed through any of them.
func (g *channels) endAll(limit time.Duration) {
	left := limit - (time.Since(g.c.began) - time.Duration(g.used.Load()))
	if left <= 0 {
		for _, ch := range g.list() {
			ch.expire(limit)
		}
		left = limit
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.timeouts) > 0 {
		g.all.Reset(left)
	}
}

func (g *channels) list() (open []*channel) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for ch := range g.open {
		open = append(open, ch)
	}
	return open
}

// add counts a channel that has been opened.
func (g *channels) add(accepted ssh.Channel, kind string) *channel {
	ch := &channel{Channel: accepted, group: g, kind: kind}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open[ch] = struct{}{}
	if g.idle != nil {
		g.idle.Stop()
	}
	if ch.timed = len(g.timeouts) > 0; ch.timed {
		ch.expired = make(chan struct{})
		ch.use(1)
		ch.setLimit(limit(g.timeouts, kind))
	}
	return ch
}

func (g *channels) remove(ch *channel) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, ch)
	ch.setLimit(0)
	if len(g.open) == 0 && g.unused > 0 {
		g.idle.Reset(g.unused)
	}
}

// channel is one that has been opened.
type channel struct {
	ssh.Channel
	group   *channels
	timed   bool          // somebody wants to know when something passes
	expired chan struct{} // closed when nothing has passed for too long; nil unless timed
	used    atomic.Int64  // as in channels

	// With group.mu.
	kind  string // direct-tcpip, session:shell, …
	limit time.Duration
	timer *time.Timer
	over  bool
}

func (ch *channel) use(n int) {
	if ch.timed && n > 0 {
		now := int64(time.Since(ch.group.c.began))
		ch.used.Store(now)
		ch.group.used.Store(now)
	}
}

func (ch *channel) Read(p []byte) (int, error) {
	n, err := ch.Channel.Read(p)
	ch.use(n)
	return n, err
}

func (ch *channel) Write(p []byte) (int, error) {
	n, err := ch.Channel.Write(p)
	ch.use(n)
	return n, err
}

func (ch *channel) Stderr() io.ReadWriter {
	if !ch.timed {
		return ch.Channel.Stderr()
	}
	return &extended{ch.Channel.Stderr(), ch}
}

// extended is a channel's other stream.
type extended struct {
	io.ReadWriter
	ch *channel
}

func (e *extended) Write(p []byte) (int, error) {
	n, err := e.ReadWriter.Write(p)
	e.ch.use(n)
	return n, err
}

// Began tells what a session turned out to be about (session.Watcher).
func (ch *channel) Began(kind string, tty bool) {
	g := ch.group
	g.mu.Lock()
	ch.kind = "session:" + kind
	ch.setLimit(limit(g.timeouts, ch.kind))
	g.mu.Unlock()
	g.c.setQoS(tty)
}

var _ session.Watcher = (*channel)(nil)

// setLimit starts the timer, or ends it with 0. group.mu is held.
func (ch *channel) setLimit(limit time.Duration) {
	if ch.timer != nil {
		ch.timer.Stop()
	}
	if ch.limit = limit; limit > 0 {
		ch.timer = time.AfterFunc(limit, ch.look)
	}
}

// look closes the channel unless something has passed meanwhile.
func (ch *channel) look() {
	ch.group.mu.Lock()
	limit := ch.limit
	left := limit - (time.Since(ch.group.c.began) - time.Duration(ch.used.Load()))
	if limit > 0 && left > 0 {
		ch.timer.Reset(left)
	}
	ch.group.mu.Unlock()
	if limit > 0 && left <= 0 {
		ch.expire(limit)
	}
}

// expire closes the channel, whether its client answers or not.
func (ch *channel) expire(limit time.Duration) {
	g := ch.group
	g.mu.Lock()
	first := !ch.over
	ch.over = true
	ch.setLimit(0)
	kind := ch.kind
	g.mu.Unlock()
	if !first {
		return
	}
	g.c.server.log.Log(g.c.server.stopping, session.LevelVerbose, fmt.Sprintf("channel closed after %.0f seconds of inactivity", limit.Seconds()), "type", kind, "from", g.c.from)
	close(ch.expired)
	ch.Channel.Close()
}

// watch is the requests of the channel until it expires. For whom serves a
// session their end is the end.
func (ch *channel) watch(in <-chan *ssh.Request) <-chan *ssh.Request {
	if !ch.timed {
		return in
	}
	out := make(chan *ssh.Request)
	go func() { // ends with the channel
		defer ssh.DiscardRequests(in) // else the connection would come to a halt
		defer close(out)
		for r := range in {
			select {
			case out <- r:
				continue
			case <-ch.expired:
				r.Reply(false, nil)
			}
			return
		}
	}()
	return out
}

// handler is how the library hands over a channel that a client wants to open.
// It ends the connection of a client that floods it.
func (c *connection) handler(serve func(*ssh.ServerConn, ssh.NewChannel)) glider.ChannelHandler {
	return func(_ *glider.Server, conn *ssh.ServerConn, asked ssh.NewChannel, _ glider.Context) {
		defer c.contain()
		known := c.channels.known.Add(1)
		defer c.channels.known.Add(-1)
		c.announce(conn)
		switch {
		case known > maxChannels+maxRefusals:
			c.server.log.Error("Disconnecting "+c.who()+": too many channels", "channels", known)
			c.end(endedByFlood)
		case known > maxChannels:
			asked.Reject(ssh.ResourceShortage, "too many channels")
		default:
			n := &newChannel{NewChannel: asked, c: c}
			defer n.done()
			serve(conn, n)
		}
	}
}

// newChannel is one that a client asks for.
type newChannel struct {
	ssh.NewChannel
	c      *connection
	opened *channel // nil unless accepted
}

func (n *newChannel) Accept() (ssh.Channel, <-chan *ssh.Request, error) {
	accepted, requests, err := n.NewChannel.Accept()
	if err != nil {
		return nil, nil, err
	}
	n.opened = n.c.channels.add(accepted, n.ChannelType())
	return n.opened, n.opened.watch(requests), nil
}

func (n *newChannel) done() {
	if n.opened != nil {
		n.c.channels.remove(n.opened)
	}
}
