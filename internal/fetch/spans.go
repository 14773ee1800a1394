package fetch

import (
	"cmp"
	"slices"
)

// span is the bytes from one offset to another, which it does not hold.
type span struct{ from, to int64 }

// spans are in order and do not touch each other.
type spans []span

// add adds the bytes of s.
func (all *spans) add(s span) {
	if s.from >= s.to {
		return
	}
	first, _ := slices.BinarySearchFunc(*all, s.from, func(e span, at int64) int { return cmp.Compare(e.to, at) })
	last := first
	for ; last < len(*all) && (*all)[last].from <= s.to; last++ {
		s.from, s.to = min(s.from, (*all)[last].from), max(s.to, (*all)[last].to)
	}
	*all = slices.Replace(*all, first, last, s)
}

// after is the first span that ends behind an offset; false for none.
func (all spans) after(at int64) (span, bool) {
	i, _ := slices.BinarySearchFunc(all, at+1, func(e span, at int64) int { return cmp.Compare(e.to, at) })
	if i == len(all) {
		return span{}, false
	}
	return all[i], true
}

// end is the first offset from at on that is missing.
func (all spans) end(at int64) int64 {
	if s, ok := all.after(at); ok && s.from <= at {
		return s.to
	}
	return at
}

// run is how many of the n bytes from at on are like the first: there or missing.
func (all spans) run(at, n int64) (_ int64, there bool) {
	s, ok := all.after(at)
	switch {
	case !ok:
		return n, false
	case s.from <= at:
		return min(n, s.to-at), true
	}
	return min(n, s.from-at), false
}

// total is the number of bytes.
func (all spans) total() (n int64) {
	for _, s := range all {
		n += s.to - s.from
	}
	return n
}
