package sshd

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"buildenv/sshd/session"
	"buildenv/sshd/sshdconfig"
)

// gate counts the connections that have not authenticated yet, and keeps in
// mind who has misbehaved.
type gate struct {
	mu        sync.Mutex // protects the following
	n         int
	sources   map[netip.Prefix]int
	throttled throttled
	penalties penalties
}

// refusal is why a connection is turned away. The zero refusal is none.
type refusal struct {
	reason string     // as sshd's log has it
	told   string     // to the client
	level  slog.Level // of the log line
	others int        // connections that have not authenticated
	notes  []string   // about the throttling as a whole
}

// enter counts one more connection, unless it is one too many. leave must be
// called with the same source when it has authenticated or ended.
func (g *gate) enter(s sshdconfig.Server, from netip.Addr, now time.Time) refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := refusal{others: g.n}
	if reason := g.penalties.check(s.PerSource, from, now); reason != "" {
		r.reason, r.told = reason, "Not allowed at this time\r\n"
		return r
	}
	source := sourceOf(s.PerSource, from)
	if rand.IntN(100) < dropRate(s.MaxStartups, g.n) || s.PerSource.MaxStartups > 0 && g.sources[source] >= s.PerSource.MaxStartups {
		r.reason, r.told = "past MaxStartups", "Exceeded MaxStartups\r\n"
		r.notes, r.level = g.throttled.drop(now)
		return r
	}
	r.notes = g.throttled.pass(g.n, s.MaxStartups.Begin, now)
	g.n++
	if g.sources == nil {
		g.sources = map[netip.Prefix]int{}
	}
	g.sources[source]++
	return r
}

func (g *gate) leave(source netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	if g.sources[source]--; g.sources[source] <= 0 {
		delete(g.sources, source)
	}
}

// sourceOf is the network that an address counts for (sshd_config(5),
// PerSourceNetBlockSize); all clients without an address are of one.
func sourceOf(p sshdconfig.PerSource, from netip.Addr) netip.Prefix {
	bits := p.Prefix6
	if from = from.Unmap().WithZone(""); from.Is4() {
		bits = p.Prefix4
	}
	source, _ := from.Prefix(bits)
	return source
}

// dropRate is the chance in per cent that a connection is dropped when n others
// have not authenticated: sshd's "random early drop" (sshd_config(5), MaxStartups).
func dropRate(m sshdconfig.MaxStartups, n int) int {
	switch {
	case n < m.Begin || m.Full == 0:
		return 0
	case n >= m.Full:
		return 100
	}
	return m.Rate + (100-m.Rate)*(n-m.Begin)/(m.Full-m.Begin)
}

// throttleNotes is how often a throttling that lasts is told.
const throttleNotes = 5 * time.Minute

// throttled is a time in which connections are dropped, which an attack can
// make many: only the first one is logged by default.
type throttled struct {
	since, last time.Time // of drops, zero if not throttled
	dropped     int
}

func (t *throttled) drop(now time.Time) (notes []string, level slog.Level) {
	level = session.LevelVerbose
	switch {
	case t.last.IsZero():
		notes, level = []string{"beginning MaxStartups throttling"}, slog.LevelInfo
		*t = throttled{since: now}
	case now.Sub(t.last) > throttleNotes:
		notes = []string{fmt.Sprintf("in MaxStartups throttling for %s, %d connections dropped", timeframe(now.Sub(t.since)), t.dropped+1)}
	}
	t.last = now
	t.dropped++
	return notes, level
}

// pass ends the throttling when there is room again.
func (t *throttled) pass(n, begin int, now time.Time) (notes []string) {
	if t.last.IsZero() || n >= begin-1 {
		return nil
	}
	notes = []string{fmt.Sprintf("exited MaxStartups throttling after %s, %d connections dropped", timeframe(now.Sub(t.since)), t.dropped)}
	*t = throttled{}
	return notes
}

// timeframe prints a duration as sshd's log does.
func timeframe(d time.Duration) string {
	s := int(d.Seconds())
	days, hours, minutes := s/86400, s/3600%24, s/60%60
	switch {
	case days >= 7:
		return fmt.Sprintf("%dw%dd%02dh", days/7, days%7, hours)
	case days > 0:
		return fmt.Sprintf("%dd%02dh%02dm", days, hours, minutes)
	}
	return fmt.Sprintf("%02d:%02d:%02d", hours, minutes, s%60)
}
