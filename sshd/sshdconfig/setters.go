package sshdconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// setter obeys a directive. Which of several lines for a keyword count is not
// its business.
type setter func(v *values, d *directive) error

// single makes a setter of a parser for one argument.
func single[T any](parse func(string) (T, error), field func(*values) *T) setter {
	return func(v *values, d *directive) error {
		arg, err := d.one()
		if err != nil {
			return err
		}
		value, err := parse(arg)
		if err != nil {
			return err
		}
		*field(v) = value
		return nil
	}
}

func flag(field func(*values) *bool) setter              { return single(parseFlag, field) }
func count(field func(*values) *int) setter              { return single(parseCount, field) }
func duration(field func(*values) *time.Duration) setter { return single(parseDuration, field) }

// name is a text of one word, "" for none.
func name(field func(*values) *string) setter {
	return single(func(arg string) (string, error) { return noneOr(arg), nil }, field)
}

// file is the name of a file, made absolute; "" for none.
func file(field func(*values) *string) setter {
	return single(func(arg string) (string, error) {
		path, err := absolute(arg)
		return noneOr(path), err
	}, field)
}

// homeFile is the name of a file that may be relative to the home directory of
// the user who logs in; "" for none.
func homeFile(field func(*values) *string) setter {
	return single(func(arg string) (string, error) {
		path, err := expandHome(arg)
		return noneOr(path), err
	}, field)
}

// choice is one of some words in upper or lower case; the table gives the
// spelling that is kept.
func choice(words map[string]string, field func(*values) *string) setter {
	return single(oneOf(words), field)
}

// durationOrNone takes "none" for no limit as well.
func durationOrNone(field func(*values) *time.Duration) setter {
	return single(func(arg string) (time.Duration, error) {
		if noneOr(arg) == "" {
			return 0, nil
		}
		return parseDuration(arg)
	}, field)
}

// raw is all that follows the keyword, quotes, comments and all; "" for none.
func raw(field func(*values) *string) setter {
	return func(v *values, d *directive) error {
		*field(v) = noneOr(d.rest)
		return nil
	}
}

// command is the raw line of a program to run, "" for none.
func command(field func(*values) *string) setter {
	return func(v *values, d *directive) error {
		if noneOr(d.rest) != "" && d.rest[0] != '/' {
			return fmt.Errorf("%s must be an absolute path", d.spelt)
		}
		return raw(field)(v, d)
	}
}

// setVersionAddendum takes what fits the identification string (RFC 4253 section 4.2).
func setVersionAddendum(v *values, d *directive) error {
	if strings.ContainsFunc(d.rest, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Errorf("%s must be printable ASCII", d.spelt)
	}
	v.VersionAddendum = noneOr(d.rest)
	return nil
}

// setPermitUserEnvironment reads yes, no or a list of patterns. Like sshd it
// takes "Yes" for a pattern.
func setPermitUserEnvironment(v *values, d *directive) error {
	arg, err := d.one()
	if err != nil {
		return err
	}
	if arg == "yes" {
		arg = "*"
	}
	if arg == "no" {
		arg = ""
	}
	v.PermitUserEnvironment = arg
	return nil
}

// list appends one or more arguments that pass a check.
func list(check func(string) error, field func(*values) *[]string) setter {
	return func(v *values, d *directive) error {
		args, err := d.some()
		if err != nil {
			return err
		}
		for _, arg := range args {
			if err := check(arg); err != nil {
				return fmt.Errorf("%s %q: %w", d.spelt, arg, err)
			}
		}
		*field(v) = append(*field(v), args...)
		return nil
	}
}

func algorithmList(of algorithms, field func(*values) *[]string) setter {
	return func(v *values, d *directive) error {
		arg, err := d.one()
		if err != nil {
			return err
		}
		names, missing, err := of.resolve(arg)
		if err != nil {
			return fmt.Errorf("%s %q: %w", d.spelt, arg, err)
		}
		for _, name := range missing {
			v.note("%s is not supported by this server and left out", name)
		}
		*field(v) = names
		return nil
	}
}

func addPort(v *values, d *directive) error {
	arg, err := d.one()
	if err != nil {
		return err
	}
	port, err := parsePort(arg)
	v.ports = append(v.ports, port)
	return err
}

func addListenAddress(v *values, d *directive) error {
	arg, err := d.one() // refuses "rdomain" after the address
	if err != nil {
		return err
	}
	address, err := parseListen(arg)
	v.listen = append(v.listen, address)
	return err
}

// addFile appends the absolute name of a file that is not in the list yet.
func addFile(field func(*values) *[]string) setter {
	return func(v *values, d *directive) error {
		arg, err := d.one()
		if err != nil {
			return err
		}
		path, err := absolute(arg)
		if list := field(v); !slices.Contains(*list, path) {
			*list = append(*list, path)
		}
		return err
	}
}

func setAuthorizedKeysFile(v *values, d *directive) error {
	args, err := d.some()
	if err != nil {
		return err
	}
	v.AuthorizedKeysFiles = slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return noneOr(arg) == "" })
	return nil
}

// setEnv takes the pairs of one line, of which the first for a name counts.
func setEnv(v *values, d *directive) error {
	args, err := d.some()
	if err != nil {
		return err
	}
	v.SetEnv = nil
	for _, pair := range args {
		if !strings.Contains(pair, "=") {
			return fmt.Errorf("invalid environment %q: want NAME=value", pair)
		}
		if !hasName(v.SetEnv, pair) {
			v.SetEnv = append(v.SetEnv, pair)
		}
	}
	return nil
}

// addSubsystem keeps the first command for a name.
func addSubsystem(v *values, d *directive) error {
	if len(d.args) < 2 || d.args[0] == "" || d.args[1] == "" {
		return fmt.Errorf("%s missing argument: want a name and a command", d.spelt)
	}
	if name := d.args[0]; v.Subsystems[name] == "" {
		v.Subsystems[name] = joinArguments(d.args[1:])
		v.subsystems = append(v.subsystems, name)
	}
	return nil
}

// setMaxStartups reads "begin:rate:full", or "full" alone.
func setMaxStartups(v *values, d *directive) error {
	arg, err := d.one()
	if err != nil {
		return err
	}
	m := v.MaxStartups
	if n, err := parseCount(arg); err == nil {
		m.Begin, m.Full = n, n
	} else if _, err := fmt.Sscanf(arg, "%d:%d:%d", &m.Begin, &m.Rate, &m.Full); err != nil {
		return fmt.Errorf("illegal MaxStartups spec %q", arg)
	}
	if m.Begin < 1 || m.Begin > m.Full || m.Rate < 1 || m.Rate > 100 {
		return fmt.Errorf("invalid MaxStartups spec %q: want BEGIN:RATE:FULL with BEGIN up to FULL and RATE in per cent", arg)
	}
	v.MaxStartups = m
	return nil
}

// setRekeyLimit takes a number of bytes; the time that may follow cannot be
// obeyed, as the library counts bytes only.
func setRekeyLimit(v *values, d *directive) error {
	args, err := d.some()
	if err != nil {
		return err
	}
	if len(args) > 2 {
		return fmt.Errorf("keyword %s extra arguments at end of line", d.spelt)
	}
	if len(args) == 2 && noneOr(args[1]) != "" && args[1] != "0" {
		return fmt.Errorf("%s %s: a time is not supported: give a number of bytes only", d.spelt, d.rest)
	}
	if strings.EqualFold(args[0], "default") {
		return nil
	}
	size, err := parseSize(args[0])
	if err == nil && size != 0 && size < 16 {
		err = errors.New("RekeyLimit too small")
	}
	v.RekeyLimit = size
	return err
}

// setAuthenticationMethods takes what keys alone can meet.
func setAuthenticationMethods(v *values, d *directive) error {
	args, err := d.some()
	if err != nil {
		return err
	}
	for _, arg := range args {
		if arg == "any" && len(args) > 1 {
			return fmt.Errorf(`"any" must appear alone in %s`, d.spelt)
		}
		if arg != "any" && arg != "publickey" {
			return fmt.Errorf("%s %s is not supported: only publickey is offered: set it to publickey", d.spelt, arg)
		}
	}
	v.methods = args
	return nil
}

func anyName(string) error { return nil }

func checkEnvPattern(arg string) error {
	if strings.Contains(arg, "=") {
		return errors.New("invalid environment name")
	}
	return nil
}
