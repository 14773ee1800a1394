package sshd

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"buildenv/sshd/sshdconfig"
)

// usualPenalties are sshd's.
func usualPenalties() sshdconfig.PerSource {
	return sshdconfig.PerSource{Prefix4: 32, Prefix6: 128, Penalties: sshdconfig.Penalties{
		Enabled: true,
		Crash:   90 * time.Second, AuthFail: 5 * time.Second, NoAuth: time.Second, GraceExceeded: 10 * time.Second,
		RefuseConnection: 10 * time.Second, InvalidUser: 5 * time.Second,
		Min: 15 * time.Second, Max: 10 * time.Minute,
		MaxSources4: 65536, MaxSources6: 65536, Overflow4: sshdconfig.Permissive, Overflow6: sshdconfig.Permissive,
	}}
}

// event happens at a time, in seconds: an offence, or a check with what it says.
type event struct {
	at      int
	from    string
	offence offence // noOffence for a check
	want    string  // of the log, or the check's part; "" for nothing
}

func TestPenalties(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*sshdconfig.PerSource)
		events []event
	}{
		"they add up to the minimum": {nil, []event{
			{0, "192.0.2.1", failedAuth, "new 192.0.2.1/32 deferred penalty of 5 seconds for penalty: failed authentication"},
			{0, "192.0.2.1", noOffence, ""},
			{0, "192.0.2.1", failedAuth, ""},
			{0, "192.0.2.1", failedAuth, "activating 192.0.2.1/32 penalty of 15 seconds for penalty: failed authentication"},
			{0, "192.0.2.1", noOffence, "penalty: failed authentication"},
			{0, "192.0.2.2", noOffence, ""},
			{14, "192.0.2.1", noOffence, "penalty: failed authentication"},
			{15, "192.0.2.1", noOffence, ""},
			{15, "192.0.2.1", failedAuth, "new 192.0.2.1/32 deferred penalty of 5 seconds for penalty: failed authentication"},
		}},
		"slowly they do not": {nil, []event{
			{0, "192.0.2.1", failedAuth, "deferred"}, {5, "192.0.2.1", failedAuth, "deferred"}, {10, "192.0.2.1", failedAuth, "deferred"}, {10, "192.0.2.1", noOffence, ""},
		}},
		"an active one stays active": {nil, []event{
			{0, "192.0.2.1", crashed, "active penalty of 90 seconds for penalty: caused crash"}, {80, "192.0.2.1", noAuth, ""},
			{90, "192.0.2.1", noOffence, "penalty: connections without attempting authentication"}, {91, "192.0.2.1", noOffence, ""},
		}},
		"the maximum": {func(p *sshdconfig.PerSource) { p.Penalties.Max = 100 * time.Second }, []event{
			{0, "192.0.2.1", crashed, "active"}, {0, "192.0.2.1", crashed, ""}, {99, "192.0.2.1", noOffence, "crash"}, {100, "192.0.2.1", noOffence, ""},
		}},
		"each offence": {func(p *sshdconfig.PerSource) { p.Penalties.Min = 0 }, []event{
			{0, "192.0.2.1", refusedConnection, "10 seconds for penalty: connection prohibited by RefuseConnection"},
			{0, "192.0.2.2", exceededGrace, "10 seconds for penalty: exceeded LoginGraceTime"},
			{0, "192.0.2.3", invalidUser, "5 seconds for penalty: attempted authentication by invalid user"},
			{0, "192.0.2.4", noAuth, "1 seconds for penalty: connections without attempting authentication"},
		}},
		"networks": {func(p *sshdconfig.PerSource) { p.Prefix4, p.Prefix6 = 24, 64 }, []event{
			{0, "192.0.2.1", crashed, "new 192.0.2.0/24 active"}, {0, "192.0.2.200", noOffence, "crash"}, {0, "192.0.3.1", noOffence, ""}, {0, "::ffff:192.0.2.7", noOffence, "crash"},
			{0, "2001:db8::1", crashed, "new 2001:db8::/64 active"}, {0, "2001:db8::2", noOffence, "crash"}, {0, "2001:db8:0:1::2", noOffence, ""},
		}},
		"exempt": {func(p *sshdconfig.PerSource) { p.Exempt = "192.0.2.0/28,2001:db8::1" }, []event{
			{0, "192.0.2.1", crashed, ""}, {0, "192.0.2.1", noOffence, ""}, {0, "2001:db8::1", crashed, ""}, {0, "192.0.2.16", crashed, "active"},
		}},
		"off":                    {func(p *sshdconfig.PerSource) { p.Penalties.Enabled = false }, []event{{0, "192.0.2.1", crashed, ""}, {0, "192.0.2.1", noOffence, ""}}},
		"nothing for an offence": {func(p *sshdconfig.PerSource) { p.Penalties.NoAuth = 0 }, []event{{0, "192.0.2.1", noAuth, ""}}},
		"full, permissive": {func(p *sshdconfig.PerSource) { p.Penalties.MaxSources4 = 2 }, []event{
			{0, "192.0.2.1", crashed, "active"}, {1, "192.0.2.2", crashed, "active"}, {2, "192.0.2.3", crashed, "active"},
			{3, "192.0.2.1", noOffence, ""}, {3, "192.0.2.2", noOffence, "crash"}, {3, "192.0.2.3", noOffence, "crash"},
		}},
		"full, deny-all": {func(p *sshdconfig.PerSource) {
			p.Penalties.MaxSources4, p.Penalties.Overflow4, p.Exempt = 2, sshdconfig.DenyAll, "198.51.100.1"
		}, []event{
			{0, "192.0.2.1", crashed, "active"}, {1, "192.0.2.2", crashed, "active"},
			{2, "192.0.2.9", noOffence, "too many penalised addresses"}, {2, "198.51.100.1", noOffence, ""}, {2, "2001:db8::1", noOffence, ""},
			{90, "192.0.2.9", noOffence, ""},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := usualPenalties()
			if c.change != nil {
				c.change(&s)
			}
			var p penalties
			start := time.Now()
			for i, e := range c.events {
				from, now := netip.MustParseAddr(e.from), start.Add(time.Duration(e.at)*time.Second)
				got := ""
				if e.offence == noOffence {
					got = p.check(s, from, now)
				} else {
					got = p.punish(s, from, e.offence, now)
				}
				if !strings.Contains(got, e.want) || (e.want == "") != (got == "") {
					t.Errorf("%d: %q, want %q", i, got, e.want)
				}
			}
		})
	}
}

func TestPenaltyTableIsBounded(t *testing.T) {
	s := usualPenalties()
	s.Penalties.MaxSources6 = 100
	var p penalties
	now := time.Now()
	for i := range 10000 {
		from := netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i))
		p.punish(s, from, offence(1+i%6), now.Add(time.Duration(i)*time.Millisecond))
		if len(p[1].by) > 100 || len(p[1].by) != len(p[1].next) {
			t.Fatalf("%d and %d entries", len(p[1].by), len(p[1].next))
		}
	}
}

// TestPenaltiesOfClients: what clients do, and what they get for it.
func TestPenaltiesOfClients(t *testing.T) {
	stranger := newKey(t, "")
	for name, c := range map[string]struct {
		change func(*fixed)
		act    func(*testing.T, *rig)
		want   string
	}{
		"no attempt":   {nil, func(t *testing.T, r *rig) { probe(t, r) }, "connections without attempting authentication"},
		"wrong key":    {nil, func(t *testing.T, r *rig) { r.dial("root", ssh.PublicKeys(stranger)) }, "failed authentication"},
		"unknown user": {nil, func(t *testing.T, r *rig) { r.dial("nobody-at-all", ssh.PublicKeys(stranger)) }, "attempted authentication by invalid user"},
		"grace": {func(f *fixed) { f.server.LoginGraceTime = 200 * time.Millisecond }, func(t *testing.T, r *rig) {
			c, err := net.Dial("tcp", r.Addrs()[0].String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.Copy(io.Discard, c)
		}, "exceeded LoginGraceTime"},
		"refused": {func(f *fixed) { f.settings.RefuseConnection = true }, func(t *testing.T, r *rig) { probe(t, r) }, "connection prohibited by RefuseConnection"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(r *rig, _ *Config) {
				r.config.server.PerSource = usualPenalties()
				r.config.server.PerSource.Penalties.Min = time.Millisecond
				p := &r.config.server.PerSource.Penalties
				p.NoAuth, p.AuthFail, p.InvalidUser = time.Minute, time.Minute, time.Minute
				if c.change != nil {
					c.change(r.config)
				}
			})
			if c.change == nil { // who comes in is not punished
				r.connect(t).Close()
			}
			c.act(t, r)
			r.logs(t, "new 127.0.0.1/32 active penalty of ")
			late, err := net.Dial("tcp", r.Addrs()[0].String())
			if err != nil {
				t.Fatal(err)
			}
			if said, _ := io.ReadAll(late); string(said) != "Not allowed at this time\r\n" {
				t.Errorf("is told %q", said)
			}
			r.logs(t, "on [127.0.0.1]:%d penalty: %s", addrPort(r.Addrs()[0]).Port(), c.want)
		})
	}
}

// probe connects and leaves.
func probe(t *testing.T, r *rig) {
	c, err := net.Dial("tcp", r.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	c.Read(make([]byte, 4))
	c.Close()
}
