package authkeys

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"buildenv/internal/pattern"
)

// Options are what a line allows and forbids. The zero value is a key without
// options. Source and the rights that it lacks may come from a certificate.
type Options struct {
	Command     string    // run instead of what the client asks for, "" for none
	From        []string  // the elements of from=, nil for any origin
	Expiry      time.Time // the key is refused after it, zero for never
	Environment []string  // NAME=value, each name once, the first value

	NoPTY, NoPortForwarding, NoAgentForwarding, NoX11, NoUserRC bool

	PermitOpen, PermitListen []string // host:port, the port may be *; nil for any

	CertAuthority   bool           // the key is one that signs certificates
	Principals      []string       // names that those may have, nil for the user's
	Source          []netip.Prefix // where a certificate may be used, nil for anywhere
	NoTouchRequired bool           // a security key need not have been touched

	verify bool // a security key must have verified its user, which it is refused for
}

// cutOptions splits a line after its options. Blanks inside double quotes
// belong to the options, and \" is a quote that does not end them.
func cutOptions(line string) (options, rest string, err error) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && strings.HasPrefix(line[i+1:], `"`):
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '\t'):
			return line[:i], strings.TrimLeft(line[i:], " \t"), nil
		}
	}
	if quoted {
		return "", "", errors.New("options: a quote is not closed")
	}
	return line, "", nil
}

// option is one element of the options: a flag, or a name with a value.
type option struct {
	name, value string // the name in lower case
	hasValue    bool
}

// parseOptions obeys options from left to right, so that what follows
// "restrict" gives single rights back. Like sshd it forgives a comma at the end.
func parseOptions(text string) (Options, error) {
	var o Options
	seen := map[string]bool{}
	for text != "" {
		opt, rest, err := nextOption(text)
		if err != nil {
			return Options{}, err
		}
		text = rest
		if opt.hasValue {
			err = o.setValue(opt.name, opt.value, seen[opt.name])
		} else {
			err = o.setFlag(opt.name)
		}
		if err != nil {
			return Options{}, fmt.Errorf("option %q: %w", opt.name, err)
		}
		seen[opt.name] = true
	}
	return o, nil
}

// nextOption takes the first option and the comma behind it from text.
func nextOption(text string) (opt option, rest string, err error) {
	end := strings.IndexAny(text, "=,")
	if end < 0 || text[end] == ',' {
		name, rest, _ := strings.Cut(text, ",")
		return option{name: strings.ToLower(name)}, rest, nil
	}
	opt = option{name: strings.ToLower(text[:end]), hasValue: true}
	opt.value, rest, err = unquote(text[end+1:])
	if err != nil {
		return opt, "", fmt.Errorf("option %q: %w", opt.name, err)
	}
	if rest != "" && rest[0] != ',' {
		return opt, "", fmt.Errorf("option %q: text after the closing quote", opt.name)
	}
	return opt, strings.TrimPrefix(rest, ","), nil
}

// unquote reads a value in double quotes, in which \" stands for a quote and
// any other backslash for itself.
func unquote(text string) (value, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		return "", "", errors.New("missing start quote")
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && strings.HasPrefix(text[i+1:], `"`):
			b.WriteByte('"')
			i++
		case text[i] == '"':
			return b.String(), text[i+1:], nil
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", errors.New("missing end quote")
}

var (
	errUnknown = errors.New("unknown key option")
	errVerify  = errors.New("verify-required: this server cannot check that a security key verified its user")
)

// setFlag obeys an option without a value. Options outside this list are
// refused, and so is "no-" before one that knows no negation.
func (o *Options) setFlag(name string) error {
	switch name {
	case "restrict":
		o.NoPTY, o.NoPortForwarding, o.NoAgentForwarding, o.NoX11, o.NoUserRC = true, true, true, true, true
		return nil
	case "cert-authority":
		o.CertAuthority = true
		return nil
	}
	positive, negated := strings.CutPrefix(name, "no-")
	switch positive {
	case "pty":
		o.NoPTY = negated
	case "port-forwarding":
		o.NoPortForwarding = negated
	case "agent-forwarding":
		o.NoAgentForwarding = negated
	case "x11-forwarding":
		o.NoX11 = negated
	case "user-rc":
		o.NoUserRC = negated
	case "touch-required":
		o.NoTouchRequired = negated
	case "verify-required":
		o.verify = !negated
	default:
		return errUnknown
	}
	return nil
}

// setValue obeys an option with a value; again tells that the line has had it.
func (o *Options) setValue(name, value string, again bool) (err error) {
	switch name {
	case "command", "from", "principals":
		if again {
			return errors.New("may be given only once")
		}
		return o.setOnce(name, value)
	case "expiry-time":
		return o.setExpiry(value)
	case "environment":
		return o.addEnvironment(value)
	case "permitopen":
		o.PermitOpen, err = addHostPort(o.PermitOpen, value)
	case "permitlisten":
		if !strings.Contains(value, ":") {
			value = "*:" + value
		}
		o.PermitListen, err = addHostPort(o.PermitListen, value)
	case "tunnel": // says which device is meant if there is one, and there is none
	default:
		return errUnknown
	}
	return err
}

func (o *Options) setOnce(name, value string) error {
	switch name {
	case "command":
		o.Command = forced(value)
	case "principals":
		o.Principals = splitPrincipals(value)
	case "from":
		if _, err := pattern.Origin(value, "", netip.Addr{}); err != nil {
			return err
		}
		o.From = strings.Split(value, ",")
	}
	return nil
}

// forced is a command that must run. An empty one is a command too, not leave
// to run anything: sshd hands it to the shell, which does nothing, as it does
// for ":".
func forced(command string) string {
	if command == "" {
		return ":"
	}
	return command
}

// splitPrincipals ends at an empty name, as sshd does (match_list in OpenSSH's
// match.c). A list without any name is nobody's.
func splitPrincipals(list string) []string {
	names := strings.Split(list, ",")
	if end := slices.Index(names, ""); end >= 0 {
		names = names[:end]
	}
	return names
}
