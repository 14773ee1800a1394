package forward

import "testing"

// open permits everything.
var open = Policy{LocalTCP: true, RemoteTCP: true, LocalSocket: true, RemoteSocket: true, Agent: true}

// but is open with an exception.
func but(change func(*Policy)) Policy {
	p := open
	change(&p)
	return p
}

func opening(lists ...Permits) Policy   { return but(func(p *Policy) { p.Open = lists }) }
func listening(lists ...Permits) Policy { return but(func(p *Policy) { p.Listen = lists }) }

func TestOpens(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		host   string
		port   int
		want   bool
	}{
		"nothing said":                {Policy{}, "a", 80, false},
		"open":                        {open, "a", 80, true},
		"no local TCP":                {but(func(p *Policy) { p.LocalTCP = false }), "a", 80, false},
		"no remote TCP":               {but(func(p *Policy) { p.RemoteTCP = false }), "a", 80, true},
		"any":                         {opening(nil, nil), "a", 80, true},
		"none":                        {opening(Permits{}), "a", 80, false},
		"the one":                     {opening(Permits{"a:80"}), "a", 80, true},
		"another port":                {opening(Permits{"a:80"}), "a", 81, false},
		"another host":                {opening(Permits{"a:80"}), "b", 80, false},
		"hosts are no patterns":       {opening(Permits{"a*:80"}), "ab", 80, false},
		"case counts":                 {opening(Permits{"a:80"}), "A", 80, false},
		"any port":                    {opening(Permits{"a:*"}), "a", 1, true},
		"any host":                    {opening(Permits{"*:80"}), "b", 80, true},
		"IPv6":                        {opening(Permits{"[::1]:80"}), "::1", 80, true},
		"second of a list":            {opening(Permits{"a:80", "b:81"}), "b", 81, true},
		"parts of two":                {opening(Permits{"a:80", "b:81"}), "a", 81, false},
		"both lists":                  {opening(Permits{"a:80"}, Permits{"*:*"}), "a", 80, true},
		"the server's, not the key's": {opening(Permits{"a:80"}, Permits{"b:80"}), "a", 80, false},
		"the key's, not the server's": {opening(Permits{"a:80"}, Permits{"b:80"}), "b", 80, false},
		"not understood":              {opening(Permits{"a:b:c"}), "a", 80, false},
		"listening does not matter":   {listening(Permits{}), "a", 80, true},
	} {
		if got := c.policy.Opens(c.host, c.port); got != c.want {
			t.Errorf("%s: %s port %d: %v, want %v", name, c.host, c.port, got, c.want)
		}
	}
}

func TestOpensSocket(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		want   bool
	}{
		"nothing said":     {Policy{}, false},
		"open":             {open, true},
		"no local sockets": {but(func(p *Policy) { p.LocalSocket = false }), false},
		"no local TCP":     {but(func(p *Policy) { p.LocalTCP = false }), false},
		"none":             {opening(Permits{}), false},
		"hosts only":       {opening(Permits{"a:80"}), false},
		"any host's port":  {opening(Permits{"*:80"}), false},
		"all":              {opening(Permits{"*:*"}), true},
	} {
		if got := c.policy.OpensSocket("/run/a.sock"); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestListens(t *testing.T) {
	for name, c := range map[string]struct {
		policy Policy
		host   string
		port   int
		want   bool
	}{
		"nothing said":         {Policy{}, "localhost", 80, false},
		"open":                 {open, "", 80, true},
		"no remote TCP":        {but(func(p *Policy) { p.RemoteTCP = false }), "", 80, false},
		"no local TCP":         {but(func(p *Policy) { p.LocalTCP = false }), "", 80, true},
		"none":                 {listening(Permits{}), "", 80, false},
		"port":                 {listening(Permits{"*:80"}), "localhost", 80, true},
		"another port":         {listening(Permits{"*:80"}), "localhost", 81, false},
		"any port is not one":  {listening(Permits{"*:80"}), "localhost", 0, false},
		"any port":             {listening(Permits{"*:*"}), "localhost", 0, true},
		"host":                 {listening(Permits{"localhost:80"}), "localhost", 80, true},
		"case does not count":  {listening(Permits{"localhost:80"}), "LocalHost", 80, true},
		"all addresses":        {listening(Permits{"localhost:80"}), "", 80, false},
		"hosts are patterns":   {listening(Permits{"10.*:80"}), "10.1.2.3", 80, true},
		"both lists":           {listening(Permits{"*:80"}, Permits{"localhost:*"}), "localhost", 80, true},
		"not the key's":        {listening(Permits{"*:80"}, Permits{"*:81"}), "localhost", 80, false},
		"not understood":       {listening(Permits{"a:b:c"}), "a", 80, false},
		"opening is not asked": {opening(Permits{}), "a", 80, true},
	} {
		if got := c.policy.Listens(c.host, c.port); got != c.want {
			t.Errorf("%s: %q port %d: %v, want %v", name, c.host, c.port, got, c.want)
		}
	}
}

func TestListensOnSocket(t *testing.T) {
	if (Policy{}).ListensOnSocket() || !open.ListensOnSocket() || !listening(Permits{}).ListensOnSocket() {
		t.Error("only AllowStreamLocalForwarding decides about sockets")
	}
}
