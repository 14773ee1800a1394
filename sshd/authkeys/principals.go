package authkeys

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Principal is one line of an AuthorizedPrincipalsFile (sshd_config(5)): a name
// that a certificate may have, perhaps with options before it.
type Principal struct {
	Name    string
	Options Options
	Line    int // counted from 1
}

// ParsePrincipals reads such a file. As with Parse, a line that cannot be used
// is a problem and is left out. A # begins a comment, also in the middle of a
// line and of a quoted text, as with sshd. The list is never nil.
func ParsePrincipals(r io.Reader) (principals []Principal, problems []error) {
	principals = []Principal{}
	problems = eachLine(r, func(number int, line string) error {
		line, _, _ = strings.Cut(line, "#")
		p, err := parsePrincipal(strings.TrimRight(line, " \t"))
		if err == nil {
			p.Line = number
			principals = append(principals, p)
		}
		return err
	})
	return principals, problems
}

// parsePrincipal takes the last word for the name: options may have blanks in
// them, names not.
func parsePrincipal(line string) (p Principal, err error) {
	options := ""
	if i := strings.LastIndexAny(line, " \t"); i >= 0 {
		options, line = line[:i], line[i+1:]
	}
	p.Name = line
	if options == "" {
		return p, nil
	}
	options, rest, err := cutOptions(options)
	if err != nil {
		return Principal{}, err
	}
	if strings.Trim(rest, " \t") != "" {
		return Principal{}, fmt.Errorf("text between the options and the name: %q", rest)
	}
	if p.Options, err = parseOptions(options); err == nil && p.Options.verify {
		err = errVerify // which key comes with it, only the certificate says
	}
	if err != nil {
		return Principal{}, err
	}
	if p.Options.CertAuthority || p.Options.Principals != nil {
		return Principal{}, errors.New("cert-authority and principals= are for keys, not for names")
	}
	return p, nil
}
