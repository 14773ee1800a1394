package sshd

import (
	"container/heap"
	"fmt"
	"net/netip"
	"time"

	"buildenv/internal/pattern"
	"buildenv/sshd/sshdconfig"
)

// offence is what a connection may have done before it authenticated
// (sshd_config(5), PerSourcePenalties).
type offence int

const (
	noOffence offence = iota
	crashed
	failedAuth
	noAuth
	refusedConnection
	exceededGrace
	invalidUser
)

// weigh is how long an offence is punished, and what the log calls it.
func (o offence) weigh(p sshdconfig.Penalties) (time.Duration, string) {
	switch o {
	case crashed:
		return p.Crash, "penalty: caused crash"
	case failedAuth:
		return p.AuthFail, "penalty: failed authentication"
	case noAuth:
		return p.NoAuth, "penalty: connections without attempting authentication"
	case refusedConnection:
		return p.RefuseConnection, "penalty: connection prohibited by RefuseConnection"
	case exceededGrace:
		return p.GraceExceeded, "penalty: exceeded LoginGraceTime"
	case invalidUser:
		return p.InvalidUser, "penalty: attempted authentication by invalid user"
	}
	return 0, ""
}

// penalties are the networks that have offended. Addresses of each kind have a
// table of their own, and its bound: there are more IPv6 networks than memory.
type penalties [2]penaltyTable

// penaltyTable holds penalties by network and by their end.
type penaltyTable struct {
	by   map[netip.Prefix]*penalty
	next expiries
}

type penalty struct {
	source netip.Prefix
	until  time.Time
	active bool // it has reached the minimum
	reason string
	index  int // in expiries
}

// bounds are what a configuration says about a table.
type bounds struct {
	max      int
	overflow sshdconfig.Overflow
}

func (p *penalties) of(s sshdconfig.PerSource, from netip.Addr) (*penaltyTable, bounds) {
	if from.Unmap().Is4() {
		return &p[0], bounds{s.Penalties.MaxSources4, s.Penalties.Overflow4}
	}
	return &p[1], bounds{s.Penalties.MaxSources6, s.Penalties.Overflow6}
}

// exempt: an address that cannot offend, or is none.
func exempt(s sshdconfig.PerSource, from netip.Addr) bool {
	if !s.Penalties.Enabled || !from.IsValid() {
		return true
	}
	if s.Exempt == "" {
		return false
	}
	verdict, err := pattern.Addresses(s.Exempt, from)
	return err == nil && verdict == pattern.Matched
}

// check is why an address is turned away now, "" if it is not.
func (p *penalties) check(s sshdconfig.PerSource, from netip.Addr, now time.Time) string {
	if exempt(s, from) {
		return ""
	}
	t, bounds := p.of(s, from)
	t.expire(now)
	if len(t.by) >= bounds.max && bounds.overflow == sshdconfig.DenyAll {
		return "too many penalised addresses"
	}
	if found := t.by[sourceOf(s, from)]; found != nil && found.active {
		return found.reason
	}
	return ""
}

// punish adds an offence to those of an address's network. It returns what is to
// be logged, "" for nothing.
func (p *penalties) punish(s sshdconfig.PerSource, from netip.Addr, o offence, now time.Time) string {
	length, reason := o.weigh(s.Penalties)
	if length <= 0 || exempt(s, from) {
		return ""
	}
	t, bounds := p.of(s, from)
	t.expire(now)
	source := sourceOf(s, from)
	found, known := t.by[source]
	if !known {
		found = t.add(source, now)
	}
	found.reason = reason
	found.until = found.until.Add(length)
	if latest := now.Add(s.Penalties.Max); found.until.After(latest) {
		found.until = latest
	}
	heap.Fix(&t.next, found.index)
	before := found.active
	found.active = before || found.until.Sub(now) >= s.Penalties.Min
	for len(t.by) > bounds.max {
		t.forget()
	}
	switch {
	case !known:
		return fmt.Sprintf("new %s %s penalty of %d seconds for %s", source, activeOrDeferred(found.active), int(length.Seconds()), reason)
	case !before && found.active:
		return fmt.Sprintf("activating %s penalty of %d seconds for %s", source, int(found.until.Sub(now).Seconds()), reason)
	}
	return ""
}

func activeOrDeferred(active bool) string {
	if active {
		return "active"
	}
	return "deferred"
}

func (t *penaltyTable) add(source netip.Prefix, now time.Time) *penalty {
	if t.by == nil {
		t.by = map[netip.Prefix]*penalty{}
	}
	p := &penalty{source: source, until: now}
	t.by[source] = p
	heap.Push(&t.next, p)
	return p
}

// expire forgets what is over.
func (t *penaltyTable) expire(now time.Time) {
	for len(t.next) > 0 && !t.next[0].until.After(now) {
		t.forget()
	}
}

// forget drops the penalty that ends first.
func (t *penaltyTable) forget() {
	delete(t.by, heap.Pop(&t.next).(*penalty).source)
}

// expiries is a heap.Interface: the penalty that ends first is the first.
type expiries []*penalty

func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].until.Before(e[j].until) }
func (e expiries) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].index, e[j].index = i, j
}

func (e *expiries) Push(x any) {
	p := x.(*penalty)
	p.index = len(*e)
	*e = append(*e, p)
}

func (e *expiries) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*e = old[:len(old)-1]
	return last
}

// punish is a penalty for the client of a connection that ended.
func (s *Server) punish(c *connection) {
	o := c.offence()
	if o == noOffence {
		return
	}
	s.gate.mu.Lock()
	note := s.gate.penalties.punish(c.server.static.PerSource, c.remote.Addr(), o, time.Now())
	s.gate.mu.Unlock()
	if note != "" {
		c.server.log.Info(note)
	}
}

// offence is what there is to punish about a connection at its end.
func (c *connection) offence() offence {
	reason := ""
	if r := c.reason.Load(); r != nil {
		reason = *r
	}
	switch {
	case reason == endedByPanic:
		return crashed
	case c.authenticated.Load() || reason == endedByServer:
		return noOffence
	case reason == endedByGrace:
		return exceededGrace
	case reason == endedByRefusal:
		return refusedConnection
	case c.introduced && c.invalid != "":
		return invalidUser
	case c.refusals > 0:
		return failedAuth
	}
	return noAuth
}
