// Package pattern matches names and addresses the way OpenSSH does (the
// PATTERNS section of ssh_config(5)).
//
// A pattern is text in which * stands for any run of characters and ? for
// exactly one. A list is patterns with commas between them; one that begins
// with ! is negated, and a negated pattern that matches decides against the
// whole list, wherever it stands. A list of nothing but negated patterns can
// therefore never match.
package pattern

import "strings"

// Verdict is what a list says about a name.
type Verdict int

const (
	// None: no pattern of the list matches.
	None Verdict = iota
	// Matched: a pattern matches, and no negated one does.
	Matched
	// Denied: a negated pattern matches.
	Denied
)

// Match tells whether the whole of s matches one pattern. It takes at most
// len(pattern)·len(s) steps, so that a pattern of many stars costs no more.
func Match(pattern, s string) bool {
	star, resume := -1, 0 // the last * seen, and where in s it may still be stretched to
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			resume++
			p, i = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// List judges s by a list of patterns.
func List(list, s string) Verdict {
	verdict := None
	for item := range strings.SplitSeq(list, ",") {
		positive, negated := strings.CutPrefix(item, "!")
		if !Match(positive, s) {
			continue
		}
		if negated {
			return Denied
		}
		verdict = Matched
	}
	return verdict
}

// Host judges a host name by a list of patterns, upper and lower case alike.
func Host(list, host string) Verdict {
	return List(strings.ToLower(list), strings.ToLower(host))
}
