package sshdconfig

import "strings"

const blanks = " \t\r"

// splitKeyword splits a line after its keyword: "K V", "K=V" and "K = V" are
// the same. The keyword is empty for an empty line and for a comment.
func splitKeyword(line string) (name, rest string) {
	line = strings.Trim(line, blanks+"\f\n")
	if strings.HasPrefix(line, "#") {
		return "", ""
	}
	end := strings.IndexAny(line, blanks+"=")
	if end < 0 {
		return line, ""
	}
	rest = strings.TrimLeft(line[end:], blanks)
	return line[:end], strings.TrimLeft(strings.TrimPrefix(rest, "="), blanks)
}

var errQuotes = counts("invalid quotes")

// splitArguments splits text into words like argv_split in OpenSSH's misc.c.
// Single and double quotes hold a word together, also in its middle. A
// backslash protects a quote, a backslash and, outside of quotes, a blank;
// before anything else it stands for itself. A word that begins with # ends
// the line.
func splitArguments(text string) ([]string, error) {
	var words []string
	for i := 0; i < len(text); {
		if text[i] == ' ' || text[i] == '\t' {
			i++
			continue
		}
		if text[i] == '#' {
			break
		}
		word, length, err := nextWord(text[i:])
		if err != nil {
			return nil, err
		}
		words = append(words, word)
		i += length
	}
	return words, nil
}

// nextWord reads the word at the beginning of text and tells how long it is there.
func nextWord(text string) (word string, length int, err error) {
	var b strings.Builder
	var quote byte // the open one, 0 for none
	i := 0
	for ; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text) && isProtected(text[i+1], quote):
			i++
			b.WriteByte(text[i])
		case quote == 0 && (c == ' ' || c == '\t'):
			return b.String(), i, nil
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", 0, errQuotes
	}
	return b.String(), i, nil
}

func isProtected(c, quote byte) bool {
	return c == '\'' || c == '"' || c == '\\' || c == ' ' && quote == 0
}

// joinArguments is the inverse of splitArguments (argv_assemble in misc.c).
func joinArguments(words []string) string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`)
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = escape.Replace(word)
		if word == "" || strings.ContainsAny(word, " \t") {
			quoted[i] = `"` + quoted[i] + `"`
		}
	}
	return strings.Join(quoted, " ")
}

// Words splits a command of the configuration's as a line of it is split.
func Words(command string) ([]string, error) { return splitArguments(command) }
