package sshd

import (
	"math/rand/v2"
	"sync"

	"buildenv/sshd/sshdconfig"
)

// startups counts the connections that have not authenticated yet.
type startups struct {
	mu sync.Mutex // protects the following
	n  int
}

// enter counts one more, unless it is one too many.
func (s *startups) enter(limits sshdconfig.MaxStartups) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rand.IntN(100) < dropRate(limits, s.n) {
		return false
	}
	s.n++
	return true
}

func (s *startups) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n--
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
