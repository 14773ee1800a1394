package sshd

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/sshdconfig"
)

// proposal is what a client would like to use (SSH_MSG_KEXINIT, RFC 4253,
// section 7.1), in its own order.
type proposal struct {
	Cookie                      [16]byte `sshtype:"20"`
	KeyExchanges, HostKeys      []string
	CiphersIn, CiphersOut       []string // client to server, server to client
	MACsIn, MACsOut             []string
	CompressionIn, CompressOut  []string
	LanguagesIn, LanguagesOut   []string
	FirstKeyExchangePacketComes bool
	Reserved                    uint32
}

// Bounds of what a client sends before it is understood, in bytes: the
// identification (RFC 4253, section 4.2) and a packet (section 6.1).
const (
	maxIdentification = 255
	maxFirstPacket    = 35000
)

// proposalPatience is how long a client may keep its proposal back. Nearly all
// send it once they have our identification; a scanner may wait for ours.
const proposalPatience = time.Second

// offer is what the server has to say it can do. Where the configuration has no
// list of its own, it depends on what the client has said.
func (c *connection) offer() ssh.Config {
	config := c.server.algorithms.Config
	if len(c.server.static.Ciphers) == 0 && sshdconfig.QuickAES {
		config.Ciphers = c.wanted.quickest(config.Ciphers)
	}
	if len(c.server.static.MACs) == 0 {
		config.MACs = c.wanted.authentic(config.MACs)
	}
	return config
}

// foresee sends our identification and waits for the client's and its proposal,
// before the library begins and has to say what we offer. What was read is kept
// for the library, which finds everything as if nothing had happened. A client
// that says something else, or nothing, has an empty proposal.
func (c *connection) foresee() {
	line := c.server.identification() + "\r\n"
	if _, err := io.WriteString(c.Conn, line); err != nil {
		return // the library will see it as well
	}
	c.said = len(line)
	c.Conn.SetReadDeadline(time.Now().Add(proposalPatience))
	defer c.Conn.SetReadDeadline(time.Time{})
	heard := make([]byte, 0, 4<<10)
	for len(heard) < maxIdentification+4+maxFirstPacket {
		heard = slices.Grow(heard, 1<<10)
		n, err := c.Conn.Read(heard[len(heard):cap(heard)])
		heard = heard[:len(heard)+n]
		c.replay = heard
		c.received.Add(int64(n))
		wanted, complete := parseProposal(heard)
		if complete || err != nil {
			c.wanted = wanted
			return
		}
	}
}

// parseProposal reads an identification and the packet after it. What is
// complete and no proposal is an empty one.
func parseProposal(heard []byte) (wanted proposal, complete bool) {
	identification, packet, ok := bytes.Cut(heard, []byte("\n"))
	if len(identification) > maxIdentification {
		return proposal{}, true
	}
	if !ok || len(packet) < 5 {
		return proposal{}, false
	}
	length, padding := binary.BigEndian.Uint32(packet), uint32(packet[4])
	if length > maxFirstPacket || length < 1+padding {
		return proposal{}, true
	}
	if uint32(len(packet)) < 4+length {
		return proposal{}, false
	}
	if ssh.Unmarshal(packet[5:4+length-padding], &wanted) != nil {
		return proposal{}, true
	}
	return wanted, true
}

// quickest narrows the ciphers on offer to AES-GCM for a client that knows it.
// The choice is the client's order, and OpenSSH's has AES-CTR before AES-GCM,
// which with its separate MAC takes twice the time on a processor with AES.
func (p proposal) quickest(offer []string) []string {
	known := slices.DeleteFunc(slices.Clone(offer), func(name string) bool {
		return !strings.Contains(name, "-gcm@") || !slices.Contains(p.CiphersIn, name) || !slices.Contains(p.CiphersOut, name)
	})
	if len(known) == 0 {
		return offer
	}
	return known
}

// authentic adds the MACs that authenticate what is meant, not what is sent, for
// a client that has said that it knows no other.
func (p proposal) authentic(offer []string) []string {
	known := func(name string) bool { return slices.Contains(offer, name) }
	if len(p.MACsIn) == 0 || slices.ContainsFunc(p.MACsIn, known) && slices.ContainsFunc(p.MACsOut, known) {
		return offer
	}
	return slices.Concat(offer, sshdconfig.DefaultAlgorithms().OldMACs)
}
