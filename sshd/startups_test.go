package sshd

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/session"
	"buildenv/sshd/sshdconfig"
)

func TestMaxStartups(t *testing.T) {
	audit := &journal{}
	r := start(t, func(r *rig, c *Config) {
		r.config.server.MaxStartups = sshdconfig.MaxStartups{Begin: 2, Rate: 100, Full: 2}
		c.Audit = NewAudit(audit)
	})
	for range 3 { // those who have logged in do not count
		r.connect(t)
	}
	var silent []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", r.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		io.ReadFull(c, make([]byte, 4)) // it has been accepted
		silent = append(silent, c)
	}
	late, err := net.Dial("tcp", r.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	if said, _ := io.ReadAll(late); string(said) != "Exceeded MaxStartups\r\n" {
		t.Errorf("one too many is told %q", said)
	}
	r.logs(t, "beginning MaxStartups throttling")
	at := addrPort(late.LocalAddr()).Port()
	r.logs(t, "drop connection #2 from [127.0.0.1]:%d on [127.0.0.1]:%d past MaxStartups", at, addrPort(r.Addrs()[0]).Port())
	if want := fmt.Sprintf(`"event":"connection.refused","remote":"127.0.0.1:%d"`, at); !strings.Contains(audit.String(), want) {
		t.Errorf("audit: %s, want %s", audit, want)
	}
	for _, c := range silent {
		c.Close()
	}
	eventually(t, "room again", func() bool {
		if c, err := r.dial("root", ssh.PublicKeys(r.key)); err == nil {
			c.Close()
		}
		return strings.Contains(r.log.String(), "exited MaxStartups throttling after 00:00:0")
	})
}

func TestDropRate(t *testing.T) {
	usual := sshdconfig.MaxStartups{Begin: 10, Rate: 30, Full: 100}
	for n, want := range map[int]int{0: 0, 9: 0, 10: 30, 55: 65, 99: 99, 100: 100, 1000: 100} {
		if got := dropRate(usual, n); got != want {
			t.Errorf("%d startups: %d %%, want %d", n, got, want)
		}
	}
	if got := dropRate(sshdconfig.MaxStartups{}, 5); got != 0 {
		t.Errorf("no limit: %d %%", got)
	}
}

func TestPerSourceMaxStartups(t *testing.T) {
	s := sshdconfig.Server{PerSource: sshdconfig.PerSource{MaxStartups: 2, Prefix4: 24, Prefix6: 64}}
	var g gate
	now := time.Now()
	for _, step := range []struct {
		from string
		in   bool
	}{
		{"192.0.2.1", true}, {"192.0.2.255", true}, {"192.0.2.3", false}, {"::ffff:192.0.2.4", false}, {"198.51.100.1", true},
		{"2001:db8::1", true}, {"2001:db8::2", true}, {"2001:db8::ffff:1", false}, {"2001:db8:0:1::1", true},
	} {
		if r := g.enter(s, netip.MustParseAddr(step.from), now); (r.reason == "") != step.in {
			t.Errorf("%s: %q", step.from, r.reason)
		}
	}
	g.leave(netip.MustParsePrefix("192.0.2.0/24"))
	if r := g.enter(s, netip.MustParseAddr("192.0.2.3"), now); r.reason != "" {
		t.Errorf("after one has left: %q", r.reason)
	}
	for _, source := range []string{"192.0.2.0/24", "192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64", "2001:db8::/64", "2001:db8:0:1::/64"} {
		g.leave(netip.MustParsePrefix(source))
	}
	if g.n != 0 || len(g.sources) != 0 {
		t.Errorf("all have left: %d, %v", g.n, g.sources)
	}
}

func TestThrottling(t *testing.T) {
	start := time.Now()
	var throttle throttled
	for _, c := range []struct {
		after time.Duration
		n     int // connections, -1 for a drop
		level int // of a drop
		want  []string
	}{
		{0, 3, 0, nil},
		{0, -1, 0, []string{"beginning MaxStartups throttling"}},
		{time.Second, -1, int(session.LevelVerbose), nil},
		{2 * time.Second, 9, 0, nil}, // not yet enough room
		{time.Hour, -1, int(session.LevelVerbose), []string{"in MaxStartups throttling for 01:00:00, 3 connections dropped"}},
		{49 * time.Hour, 8, 0, []string{"exited MaxStartups throttling after 2d01h00m, 3 connections dropped"}},
		{50 * time.Hour, 0, 0, nil},
		{51 * time.Hour, -1, 0, []string{"beginning MaxStartups throttling"}},
	} {
		var notes []string
		if now := start.Add(c.after); c.n < 0 {
			got, level := throttle.drop(now)
			if notes = got; int(level) != c.level {
				t.Errorf("after %s: level %d, want %d", c.after, level, c.level)
			}
		} else {
			notes = throttle.pass(c.n, 10, now)
		}
		if !slices.Equal(notes, c.want) {
			t.Errorf("after %s: %q, want %q", c.after, notes, c.want)
		}
	}
	if got := timeframe(15*24*time.Hour + 3*time.Hour); got != "2w1d03h" {
		t.Error(got)
	}
}
