package scp

import (
	"errors"
	"path"
	"strings"
)

// maxWords bounds a command line; clients send one path.
const maxWords = 1000

// A word of a command line, without its quotes.
type word struct {
	text    string // as it is if it is no pattern, or matches nothing
	match   string // for path.Match: what was quoted is escaped
	pattern bool   // has characters of a pattern that were not quoted
	tilde   bool   // begins with a tilde that was not quoted
	user    string // what follows that tilde, up to the first slash
}

// reserved characters mean something to a shell wherever they are not quoted.
const reserved = "|&;<>()$`{}\n\x00"

// special characters have to be escaped where path.Match shall take them as
// they are.
const special = `*?[]\^-!`

// lexer splits a command line.
type lexer struct {
	rest  string
	words []word

	text, match strings.Builder
	pattern     bool
	quoted      bool // something of the word is, so an empty word counts
	tilde       bool
	tildeEnd    int // length of text up to which nothing is quoted, -1 while that is all
}

// split reports false for what only a shell can read.
func split(text string) ([]word, bool) {
	l := lexer{rest: text}
	l.begin()
	for l.rest != "" {
		if !l.next() || len(l.words) > maxWords {
			return nil, false
		}
	}
	l.end()
	return l.words, true
}

func (l *lexer) begin() {
	l.text.Reset()
	l.match.Reset()
	l.pattern, l.quoted, l.tilde, l.tildeEnd = false, false, false, -1
}

func (l *lexer) end() {
	if l.text.Len() > 0 || l.quoted {
		w := word{text: l.text.String(), match: l.match.String(), pattern: l.pattern, tilde: l.tilde}
		if w.tilde {
			w.user, _, _ = strings.Cut(w.text[1:], "/")
			// A quote before the slash makes the tilde an ordinary character.
			w.tilde = l.tildeEnd < 0 || l.tildeEnd > len(w.user)
		}
		l.words = append(l.words, w)
	}
	l.begin()
}

// next takes one character or one quoted part.
func (l *lexer) next() bool {
	c := l.rest[0]
	l.rest = l.rest[1:]
	switch {
	case c == ' ' || c == '\t':
		l.end()
	case c == '\'':
		return l.singleQuoted()
	case c == '"':
		return l.doubleQuoted()
	case c == '\\':
		if l.rest == "" || l.rest[0] == '\n' || l.rest[0] == 0 {
			return false
		}
		l.literal(l.rest[0])
		l.rest = l.rest[1:]
	case strings.IndexByte(reserved, c) >= 0:
		return false
	case c == '#' && l.text.Len() == 0 && !l.quoted:
		return false
	default:
		l.plain(c)
	}
	return true
}

// plain adds a character that is not quoted.
func (l *lexer) plain(c byte) {
	switch c {
	case '~':
		l.tilde = l.tilde || l.text.Len() == 0 && !l.quoted
	case '*', '?', '[':
		l.pattern = true
	case '!': // at the beginning of a set it is path.Match's ^
		if strings.HasSuffix(l.match.String(), "[") && !strings.HasSuffix(l.match.String(), `\[`) {
			l.text.WriteByte(c)
			l.match.WriteByte('^')
			return
		}
	}
	l.text.WriteByte(c)
	l.match.WriteByte(c)
}

// literal adds a character that is quoted.
func (l *lexer) literal(c byte) {
	l.quoted = true
	if l.tildeEnd < 0 {
		l.tildeEnd = l.text.Len()
	}
	l.text.WriteByte(c)
	if strings.IndexByte(special, c) >= 0 {
		l.match.WriteByte('\\')
	}
	l.match.WriteByte(c)
}

func (l *lexer) singleQuoted() bool {
	inside, rest, closed := strings.Cut(l.rest, "'")
	l.rest, l.quoted = rest, true
	for _, c := range []byte(inside) {
		l.literal(c)
	}
	return closed && strings.IndexByte(inside, 0) < 0
}

// doubleQuoted: only some characters need and take a backslash.
func (l *lexer) doubleQuoted() bool {
	l.quoted = true
	for l.rest != "" {
		c := l.rest[0]
		l.rest = l.rest[1:]
		switch c {
		case '"':
			return true
		case '$', '`', 0:
			return false
		case '\\':
			if l.rest != "" && strings.IndexByte("$`\"\\\n", l.rest[0]) >= 0 {
				if c = l.rest[0]; c == '\n' {
					return false
				}
				l.rest = l.rest[1:]
			}
		}
		l.literal(c)
	}
	return false
}

var errPattern = errors.New("a pattern that only a shell knows")

// components are the parts of a pattern between slashes. Patterns that shells
// and path.Match do not read alike are refused.
func (w word) components() ([]string, error) {
	if !w.pattern {
		return nil, nil
	}
	components := strings.Split(w.match, "/")
	for _, c := range components {
		if _, err := path.Match(c, ""); err != nil {
			return nil, errPattern
		}
		for _, class := range []string{"[:", "[.", "[="} {
			if strings.Contains(c, class) {
				return nil, errPattern
			}
		}
	}
	return components, nil
}
