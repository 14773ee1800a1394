package sftp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Bounds of the protocol, those of OpenSSH. A client learns them from
// limits@openssh.com and then moves 255 KiB per packet instead of 32.
const (
	maxPacket = 256 << 10        // bytes that may follow the length word
	maxData   = maxPacket - 1024 // bytes of a file in one packet
)

// Packet types, draft-ietf-secsh-filexfer-02 section 3.
const (
	fxpInit          = 1
	fxpVersion       = 2
	fxpOpen          = 3
	fxpClose         = 4
	fxpRead          = 5
	fxpWrite         = 6
	fxpLstat         = 7
	fxpFstat         = 8
	fxpSetstat       = 9
	fxpFsetstat      = 10
	fxpOpendir       = 11
	fxpReaddir       = 12
	fxpRemove        = 13
	fxpMkdir         = 14
	fxpRmdir         = 15
	fxpRealpath      = 16
	fxpStat          = 17
	fxpRename        = 18
	fxpReadlink      = 19
	fxpSymlink       = 20
	fxpStatus        = 101
	fxpHandle        = 102
	fxpData          = 103
	fxpName          = 104
	fxpAttrs         = 105
	fxpExtended      = 200
	fxpExtendedReply = 201
)

// protocolVersion is the only version that clients in use speak.
const protocolVersion = 3

// errMalformed ends the session: after it nothing that follows can be trusted.
var errMalformed = errors.New("malformed packet")

// A packet is a buffer that is big enough for any packet, with its length
// word. Packets are pooled, for a transfer uses thousands of them per second.
type packet struct{ b []byte }

var packets = sync.Pool{New: func() any { return &packet{make([]byte, 0, 4+maxPacket)} }}

func newPacket() *packet { return packets.Get().(*packet) }

// free gives the packet back. Nothing may refer to its bytes any more.
func (p *packet) free() { packets.Put(p) }

// readPacket reads one packet without its length word.
// At the end of the stream between two packets the error is io.EOF itself.
func readPacket(r *bufio.Reader) (*packet, error) {
	word, err := r.Peek(4)
	if err != nil {
		if err == io.EOF && len(word) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	n := binary.BigEndian.Uint32(word)
	r.Discard(4)
	if n > maxPacket {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", errMalformed, n, maxPacket)
	}
	p := newPacket()
	p.b = p.b[:n]
	if _, err := io.ReadFull(r, p.b); err != nil {
		p.free()
		return nil, fmt.Errorf("packet of %d bytes: %w", n, noEOF(err))
	}
	return p, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// headerSize is what precedes the fields of a reply: length, type, request id.
const headerSize = 4 + 1 + 4

// begin makes p an empty reply to request id.
func (p *packet) begin(kind byte, id uint32) {
	p.b = append(p.b[:0], 0, 0, 0, 0, kind)
	p.u32(id)
}

// finish sets the length word. The packet must not grow after it.
func (p *packet) finish() {
	binary.BigEndian.PutUint32(p.b, uint32(len(p.b)-4))
}

// setKind changes the type of a reply.
func (p *packet) setKind(kind byte) { p.b[4] = kind }

func (p *packet) u32(v uint32)    { p.b = binary.BigEndian.AppendUint32(p.b, v) }
func (p *packet) u64(v uint64)    { p.b = binary.BigEndian.AppendUint64(p.b, v) }
func (p *packet) string(s string) { p.u32(uint32(len(s))); p.b = append(p.b, s...) }

// A decoder takes the fields of a request from the front of its packet.
// A field that is not there reads as zero and makes err report it, so that a
// request decodes all its fields first and then asks once.
type decoder struct {
	rest  []byte
	short bool
}

// err is errMalformed if a field was missing.
func (d *decoder) err() error {
	if d.short {
		return errMalformed
	}
	return nil
}

func (d *decoder) take(n uint32) []byte {
	if uint64(n) > uint64(len(d.rest)) {
		d.short, d.rest = true, nil
		return nil
	}
	field := d.rest[:n]
	d.rest = d.rest[n:]
	return field
}

func (d *decoder) u8() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bytes is a string field that lives as long as the packet.
func (d *decoder) bytes() []byte { return d.take(d.u32()) }

func (d *decoder) string() string { return string(d.bytes()) }
