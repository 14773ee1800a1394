package scp

import (
	"path"
	"strings"
)

// Command is an scp command line of the kind that a client runs on the other
// side.
type Command struct {
	Program   string // its first word, "scp" or a path to it
	Sink      bool   // -t: it receives; else -f: it sends
	Recursive bool   // -r
	Preserve  bool   // -p: times and modes
	Directory bool   // -d: the target has to be a directory
	Verbose   bool   // -v

	paths []word
}

// Parse reads the text of a command as a shell would. It reports false for
// everything that is not surely an scp of this kind: another program, an
// option of which nothing is known here, and every character that would mean
// something to a shell, apart from quotes, the patterns *, ? and [], and a
// tilde at the beginning of a word.
func Parse(text string) (Command, bool) {
	words, ok := split(text)
	if !ok || len(words) == 0 || words[0].pattern || path.Base(words[0].text) != "scp" {
		return Command{}, false
	}
	c := Command{Program: words[0].text}
	rest, role, ok := c.setOptions(words[1:])
	if !ok || role != 't' && role != 'f' {
		return Command{}, false
	}
	c.Sink, c.paths = role == 't', rest
	for _, w := range rest {
		if _, err := w.components(); err != nil {
			return Command{}, false
		}
	}
	return c, true
}

// setOptions takes the options from the front. role is t or f, 0 for none or
// both. An option behind a path is left to a real scp, whose getopt(3) decides.
func (c *Command) setOptions(words []word) (rest []word, role byte, ok bool) {
	for i, w := range words {
		if w.text == "--" {
			return words[i+1:], role, true
		}
		if len(w.text) < 2 || w.text[0] != '-' {
			return words[i:], role, !anyOption(words[i:])
		}
		if w.pattern {
			return nil, 0, false
		}
		for _, letter := range []byte(w.text[1:]) {
			switch letter {
			case 't', 'f':
				if role != 0 && role != letter {
					return nil, 0, false
				}
				role = letter
			case 'r':
				c.Recursive = true
			case 'p':
				c.Preserve = true
			case 'd':
				c.Directory = true
			case 'v':
				c.Verbose = true
			case 'q', 'T', 'O': // for the other side
			default:
				return nil, 0, false
			}
		}
	}
	return nil, role, true
}

func anyOption(words []word) bool {
	for _, w := range words {
		if strings.HasPrefix(w.text, "-") && len(w.text) > 1 {
			return true
		}
	}
	return false
}
