package sftp

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

// client speaks the protocol packet by packet.
type client struct {
	t       testing.TB
	w       io.Writer
	r       *bufio.Reader
	id      uint32
	handles map[string]string // by the name that a script gave them
	version reply
}

// newClient exchanges versions with a server.
func newClient(t testing.TB, w io.Writer, r io.Reader) *client {
	t.Helper()
	c := &client{t: t, w: w, r: bufio.NewReader(r), handles: make(map[string]string)}
	io.WriteString(c.w, hello)
	c.version = c.read()
	if c.version.kind != fxpVersion || c.version.id != protocolVersion {
		t.Fatalf("hello: got packet type %d, version %d", c.version.kind, c.version.id)
	}
	return c
}

// ref stands for a handle in the fields of a request.
type ref string

// raw bytes go into a request as they are.
type raw string

// hello is the packet that begins every session.
var hello = string(encode(fxpInit, protocolVersion, nil))

// encode makes a request of its fields.
func encode(kind byte, id uint32, handles map[string]string, fields ...any) []byte {
	p := &packet{}
	p.begin(kind, id)
	for _, f := range fields {
		switch f := f.(type) {
		case int:
			p.u32(uint32(f))
		case uint64:
			p.u64(f)
		case string:
			p.string(f)
		case raw:
			p.b = append(p.b, f...)
		case ref:
			p.string(handles[string(f)])
		case attrs:
			p.attrs(f)
		default:
			panic(fmt.Sprintf("field of type %T", f))
		}
	}
	p.finish()
	return p.b
}

// send sends a request and returns its id.
func (c *client) send(kind byte, fields ...any) uint32 {
	c.id++
	c.write(encode(kind, c.id, c.handles, fields...))
	return c.id
}

func (c *client) write(b []byte) {
	if _, err := c.w.Write(b); err != nil {
		c.t.Errorf("send request: %v", err)
	}
}

type reply struct {
	kind byte
	id   uint32
	body decoder
}

func (c *client) read() reply {
	c.t.Helper()
	p, err := readPacket(c.r)
	if err != nil {
		c.t.Fatalf("read reply: %v", err)
	}
	d := decoder{rest: slices.Clone(p.b)}
	p.free()
	r := reply{kind: d.u8(), id: d.u32()}
	r.body = d
	return r
}

// call sends a request and waits for its reply.
func (c *client) call(kind byte, fields ...any) reply {
	c.t.Helper()
	id := c.send(kind, fields...)
	r := c.read()
	if r.id != id {
		c.t.Fatalf("reply to request %d, want %d", r.id, id)
	}
	return r
}

// open keeps the handle of OPEN or OPENDIR under a name.
func (c *client) open(name string, kind byte, fields ...any) reply {
	c.t.Helper()
	r := c.call(kind, fields...)
	if r.kind == fxpHandle {
		d := r.body
		c.handles[name] = d.string()
	}
	return r
}

// String is what two servers should agree on: not handles, not times.
func (r reply) String() string {
	d := r.body
	var s string
	switch r.kind {
	case fxpStatus:
		s = fmt.Sprintf("status %d %q", d.u32(), d.string())
	case fxpHandle:
		s = "handle"
	case fxpData:
		s = fmt.Sprintf("data %q", d.string())
	case fxpAttrs:
		s = d.attrs().String()
	case fxpName:
		var lines []string
		for range d.u32() {
			name, long, a := d.string(), d.string(), d.attrs()
			lines = append(lines, fmt.Sprintf("%s | %s | %v", name, long, a))
		}
		slices.Sort(lines)
		s = "names\n" + strings.Join(lines, "\n")
	case fxpExtendedReply:
		s = fmt.Sprintf("extended %d bytes", len(d.rest))
	default:
		s = fmt.Sprintf("packet type %d", r.kind)
	}
	if d.short {
		s += " (too short)"
	}
	return s
}

func (a attrs) String() string {
	size := int64(-1)
	if a.mode&0o170000 == 0o100000 {
		size = int64(a.size)
	}
	return fmt.Sprintf("attrs %b size %d owner %d:%d mode %o", a.flags, size, a.uid, a.gid, a.mode)
}
