package sshd

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/sshdconfig"
)

// TestAgreedAlgorithms: what OpenSSH's client says that it has agreed on.
func TestAgreedAlgorithms(t *testing.T) {
	const gcm, ctr = "aes128-gcm@openssh.com", "aes256-ctr"
	quick := func(without, with string) string {
		if sshdconfig.QuickAES {
			return with
		}
		return without
	}
	for name, c := range map[string]struct {
		server      sshdconfig.Server
		client      []string
		cipher, mac string
		refused     bool
	}{
		"client's defaults":       {client: nil, cipher: quick(ssh.CipherChaCha20Poly1305, gcm), mac: "<implicit>"},
		"one of its own":          {client: []string{"-c", "aes256-gcm@openssh.com"}, cipher: "aes256-gcm@openssh.com", mac: "<implicit>"},
		"no GCM":                  {client: []string{"-c", ctr, "-m", "hmac-sha2-256-etm@openssh.com"}, cipher: ctr, mac: "hmac-sha2-256-etm@openssh.com"},
		"GCM, but later":          {client: []string{"-c", ctr + "," + gcm, "-m", "hmac-sha2-256-etm@openssh.com"}, cipher: quick(ctr, gcm), mac: quick("hmac-sha2-256-etm@openssh.com", "<implicit>")},
		"explicit Ciphers":        {server: sshdconfig.Server{Ciphers: []string{gcm, ctr}}, client: []string{"-c", ctr + "," + gcm, "-m", "hmac-sha2-256-etm@openssh.com"}, cipher: ctr, mac: "hmac-sha2-256-etm@openssh.com"},
		"old MACs only":           {client: []string{"-c", ctr, "-m", "hmac-sha2-256"}, cipher: ctr, mac: "hmac-sha2-256"},
		"old MACs first":          {client: []string{"-c", ctr, "-m", "hmac-sha2-256,hmac-sha2-512-etm@openssh.com"}, cipher: ctr, mac: "hmac-sha2-512-etm@openssh.com"},
		"explicit MACs":           {server: sshdconfig.Server{MACs: []string{"hmac-sha2-512-etm@openssh.com"}}, client: []string{"-c", ctr, "-m", "hmac-sha2-256"}, refused: true},
		"nothing that both know":  {client: []string{"-c", "3des-cbc"}, refused: true},
		"a slow one if it is fit": {server: sshdconfig.Server{Ciphers: []string{ssh.CipherChaCha20Poly1305}}, cipher: ssh.CipherChaCha20Poly1305, mac: "<implicit>"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(r *rig, _ *Config) {
				r.config.server.Ciphers, r.config.server.MACs = c.server.Ciphers, c.server.MACs
			})
			out, stderr, status := run(t, r.command(t, "ssh", append(append([]string{"-vv"}, c.client...), "root@127.0.0.1", "echo in")...))
			if c.refused {
				if status != 255 || !strings.Contains(stderr, "no matching") {
					t.Errorf("status %d, %s", status, lastLine(stderr))
				}
				return
			}
			if out != "in\n" || status != 0 {
				t.Fatalf("%q, status %d, %s", out, status, lastLine(stderr))
			}
			for _, direction := range []string{"server->client", "client->server"} {
				if cipher, mac := agreed(stderr, direction); cipher != c.cipher || mac != c.mac {
					t.Errorf("%s: %s and %s, want %s and %s", direction, cipher, mac, c.cipher, c.mac)
				}
			}
		})
	}
}

func agreed(debug, direction string) (cipher, mac string) {
	found := regexp.MustCompile(`kex: ` + direction + ` cipher: (\S+) MAC: (\S+)`).FindStringSubmatch(debug)
	if found == nil {
		return "nothing", "nothing"
	}
	return found[1], found[2]
}

// reserved holds a client's second message back until the server has said more
// than its identification, as a client may that wants to know first.
type reserved struct {
	net.Conn
	writes   int
	heard    chan struct{} // closed when the server's proposal begins
	listened []byte        // nil when that has been seen
}

func (r *reserved) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	if r.listened != nil {
		r.listened = append(r.listened, p[:n]...)
		if _, proposal, _ := bytes.Cut(r.listened, []byte("\n")); len(proposal) > 0 {
			r.listened = nil
			close(r.heard)
		}
	}
	return n, err
}

func (r *reserved) Write(p []byte) (int, error) {
	if r.writes++; r.writes == 2 {
		<-r.heard
	}
	return r.Conn.Write(p)
}

func TestProposalThatIsHeldBack(t *testing.T) {
	r := start(t, nil)
	raw, err := net.Dial("tcp", r.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	raw.SetDeadline(time.Now().Add(patience))
	config := &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(r.key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	conn, channels, requests, err := ssh.NewClientConn(&reserved{Conn: raw, heard: make(chan struct{}), listened: []byte{}}, "", config)
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(conn, channels, requests)
	defer client.Close()
	if out, err := output(client, "echo in"); out != "in\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// packet is the first binary packet of a client, of which the length and the
// padding may be lies.
func packet(length uint32, padding byte, payload []byte) []byte {
	return append(append(binary.BigEndian.AppendUint32(nil, length), padding), payload...)
}

// honest is a packet that says the truth.
func honest(payload []byte) []byte {
	padding := 8 + (8-(5+len(payload)+8)%8)%8
	return packet(uint32(1+len(payload)+padding), byte(padding), append(payload, make([]byte, padding)...))
}

const identification = "SSH-2.0-test\r\n"

func exampleProposal() proposal {
	return proposal{
		KeyExchanges: []string{"curve25519-sha256"}, HostKeys: []string{"ssh-ed25519"},
		CiphersIn: []string{"aes128-ctr", "aes128-gcm@openssh.com"}, CiphersOut: []string{"aes128-gcm@openssh.com"},
		MACsIn: []string{"hmac-sha2-256"}, MACsOut: []string{"hmac-sha2-256"},
		CompressionIn: []string{"none"}, CompressOut: []string{"none"},
	}
}

func hostileOpenings() map[string]string {
	long := exampleProposal()
	long.CiphersIn = strings.Split(strings.TrimSuffix(strings.Repeat("x,", 16000), ","), ",")
	good := honest(ssh.Marshal(exampleProposal()))
	list := honest(append(append([]byte{20}, make([]byte, 16)...), 0xff, 0xff, 0xff, 0xff, 'x'))
	return map[string]string{
		"nothing":                 "",
		"half an identification":  "SSH-2.0-te",
		"no identification":       "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"long identification":     "SSH-2.0-" + strings.Repeat("x", 100000),
		"identification only":     identification,
		"half a length":           identification + "\x00\x00",
		"truncated":               identification + string(good[:len(good)/2]),
		"no length":               identification + string(packet(0, 0, nil)),
		"huge length":             identification + string(packet(1<<31, 4, []byte("xxxx"))),
		"greatest length":         identification + string(packet(1<<32-1, 255, []byte("xxxx"))),
		"padding only":            identification + string(packet(5, 4, []byte("xxxx"))),
		"more padding than that":  identification + string(packet(5, 255, []byte("xxxx"))),
		"another message":         identification + string(honest([]byte{50, 0, 0, 0, 4})),
		"a list that is too long": identification + string(list),
		"many names":              identification + string(honest(ssh.Marshal(long))),
		"zeros":                   strings.Repeat("\x00", 100000),
	}
}

// TestHostileOpenings: whatever comes first, the client is gone after a while,
// and others are served meanwhile and afterwards.
func TestHostileOpenings(t *testing.T) {
	audit := &journal{}
	r := start(t, func(r *rig, c *Config) {
		r.config.server.LoginGraceTime = 5 * time.Second
		r.config.server.MaxStartups = sshdconfig.MaxStartups{Begin: 100, Rate: 100, Full: 100}
		c.Audit = NewAudit(audit)
	})
	openings := hostileOpenings()
	ended := make(chan string, len(openings))
	for name, text := range openings {
		c, err := net.Dial("tcp", r.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go io.WriteString(c, text) // the server may have closed it by then
		go func() {
			io.Copy(io.Discard, c)
			ended <- name
		}()
	}
	r.connect(t)
	limit := time.After(patience)
	for range openings {
		select {
		case name := <-ended:
			delete(openings, name)
		case <-limit:
			t.Fatalf("still connected: %d of them", len(openings))
		}
	}
	r.connect(t)
	if strings.Contains(r.log.String(), "panic") || strings.Contains(audit.String(), endedByPanic) {
		t.Error("panic: see the log")
	}
}

func TestParseProposal(t *testing.T) {
	good := exampleProposal()
	for name, c := range map[string]struct {
		text     string
		want     proposal
		complete bool
	}{
		"none yet":            {"", proposal{}, false},
		"identification":      {identification, proposal{}, false},
		"whole":               {identification + string(honest(ssh.Marshal(good))), good, true},
		"with more after it":  {identification + string(honest(ssh.Marshal(good))) + "more", good, true},
		"another line ending": {"SSH-2.0-x\n" + string(honest(ssh.Marshal(good))), good, true},
	} {
		if got, complete := parseProposal([]byte(c.text)); complete != c.complete || !reflect.DeepEqual(got.CiphersIn, c.want.CiphersIn) || !reflect.DeepEqual(got.MACsOut, c.want.MACsOut) {
			t.Errorf("%s: %+v, complete %v", name, got, complete)
		}
	}
	for name, text := range hostileOpenings() {
		if got, _ := parseProposal([]byte(text)); len(got.CiphersIn) > 0 && name != "many names" {
			t.Errorf("%s: understood as %+v", name, got)
		}
	}
}

// FuzzParseProposal: what is understood does not depend on how it arrives, and
// nobody can keep the server listening for more than its bound.
func FuzzParseProposal(f *testing.F) {
	f.Add([]byte(identification+string(honest(ssh.Marshal(exampleProposal())))), 20)
	for _, text := range hostileOpenings() {
		f.Add([]byte(text[:min(len(text), 1000)]), len(text)/2)
	}
	f.Fuzz(func(t *testing.T, heard []byte, cut int) {
		whole, complete := parseProposal(heard)
		if !complete && len(heard) >= maxIdentification+1+4+maxFirstPacket {
			t.Errorf("%d bytes, and still not complete", len(heard))
		}
		if !complete && len(whole.CiphersIn) > 0 {
			t.Errorf("incomplete, and understood: %+v", whole)
		}
		if cut < 0 || cut > len(heard) {
			return
		}
		if part, enough := parseProposal(heard[:cut]); enough && (!complete || !reflect.DeepEqual(part, whole)) {
			t.Errorf("%q is %+v, and with more after it %+v (complete %v)", heard[:cut], part, whole, complete)
		}
	})
}
