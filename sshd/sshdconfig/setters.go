package sshdconfig

import (
	"cmp"
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

func onOff(field func(*values) *bool) setter             { return single(parseFlag, field) }
func duration(field func(*values) *time.Duration) setter { return single(parseDuration, field) }

// count names the keyword in its errors.
func count(field func(*values) *int) setter {
	return func(v *values, d *directive) error {
		arg, err := d.one()
		if err != nil {
			return err
		}
		if *field(v), err = parseCount(arg); err != nil {
			return says("%s %v", d.spelt, err)
		}
		return nil
	}
}

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

// choiceOf is choice with an error of its own.
func choiceOf(refusal string, words map[string]string, field func(*values) *string) setter {
	return single(func(arg string) (string, error) {
		word, err := oneOf(words)(arg)
		if err != nil {
			return "", says(refusal, arg)
		}
		return word, nil
	}, field)
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
	if strings.ContainsFunc(d.rest, func(r rune) bool { return r < ' ' }) {
		return says("Invalid %s: a control character would end every handshake", d.spelt)
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
func list(check func(keyword, arg string) error, field func(*values) *[]string) setter {
	return func(v *values, d *directive) error {
		if len(d.args) == 0 {
			return fmt.Errorf("%s missing argument", d.spelt)
		}
		for _, arg := range d.args {
			if err := check(d.spelt, arg); err != nil {
				return err
			}
		}
		*field(v) = append(*field(v), d.args...)
		return nil
	}
}

func algorithmList(of algorithms, what string, field func(*values) *[]string) setter {
	return func(v *values, d *directive) error {
		arg, err := d.one()
		if err != nil {
			return err
		}
		names, missing, err := of.resolve(arg)
		if err != nil {
			return says("Bad %s '%s': %v", what, arg, err)
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
	if err == nil && port == 0 {
		err = says("Badly formatted port number: 0")
	}
	v.ports = append(v.ports, port)
	return err
}

// addListenAddress takes port 0 for any free one, which sshd does not.
func addListenAddress(v *values, d *directive) error {
	args, err := d.some()
	switch {
	case err != nil:
		return err
	case len(args) > 1 && !strings.EqualFold(args[1], "rdomain"):
		return errors.New("bad ListenAddress syntax")
	case len(args) > 1:
		return errors.New("bad routing domain: this server knows none")
	}
	address, err := parseListen(args[0])
	v.listen = append(v.listen, address)
	return err
}

// addFile appends the absolute name of a file.
func addFile(field func(*values) *[]string) setter {
	return func(v *values, d *directive) error {
		arg, err := d.one()
		if err != nil {
			return err
		}
		path, err := absolute(arg)
		*field(v) = append(*field(v), path)
		return err
	}
}

func setAuthorizedKeysFile(v *values, d *directive) error {
	args, err := d.some()
	if err != nil {
		return err
	}
	v.written[d.keyword.key()] = strings.Join(args, " ")
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
			return says("Invalid environment: %q: want NAME=value", pair)
		}
		if !hasName(v.SetEnv, pair) {
			v.SetEnv = append(v.SetEnv, pair)
		}
	}
	return nil
}

// addSubsystem keeps the first command for a name.
func addSubsystem(v *values, d *directive) error {
	if len(d.args) == 0 || d.args[0] == "" {
		return fmt.Errorf("%s missing argument", d.spelt)
	}
	if len(d.args) == 1 || d.args[1] == "" {
		return says("Missing subsystem command: want a name and a command")
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
		m = MaxStartups{}
	}
	if m.Begin < 1 || m.Begin > m.Full || m.Rate < 1 || m.Rate > 100 {
		return says("Invalid MaxStartups spec: %q: want BEGIN:RATE:FULL with BEGIN up to FULL and RATE in per cent", arg)
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
		return d.tooMany()
	}
	if len(args) == 2 && noneOr(args[1]) != "" {
		if after, err := parseDuration(args[1]); err != nil || after != 0 {
			return cmp.Or(err, fmt.Errorf("%s %s: a time is not supported: give a number of bytes only", d.spelt, d.rest))
		}
	}
	if strings.EqualFold(args[0], "default") {
		return nil
	}
	v.RekeyLimit, err = parseSize(args[0])
	if err != nil {
		return says("Bad %s number '%s': Invalid argument: %v", d.spelt, args[0], err)
	}
	if v.RekeyLimit != 0 && v.RekeyLimit < 16 {
		return errors.New("RekeyLimit too small")
	}
	return nil
}

// setAuthenticationMethods takes what keys alone can meet: lists of publickey,
// as many as keys have to sign. The shortest list is the one to meet.
func setAuthenticationMethods(v *values, d *directive) error {
	args, err := d.some()
	if err != nil {
		return err
	}
	v.written[d.keyword.key()] = strings.Join(args, " ")
	v.PublicKeys = 0
	if len(args) == 1 && args[0] == "any" {
		return nil
	}
	for _, arg := range args {
		n, err := countKeys(d.spelt, arg)
		if err != nil {
			return err
		}
		if v.PublicKeys == 0 || n < v.PublicKeys {
			v.PublicKeys = n
		}
	}
	return nil
}

// countKeys tells how many keys a list of methods asks for.
func countKeys(keyword, list string) (int, error) {
	if list == "any" {
		return 0, says(`"any" must appear alone in %s`, keyword)
	}
	if err := checkMethods(list); err != nil {
		return 0, fmt.Errorf("invalid %s method list: %w", keyword, err)
	}
	methods := strings.Split(list, ",")
	if slices.ContainsFunc(methods, func(method string) bool { return method != "publickey" }) {
		return 0, fmt.Errorf("%s %s is not supported: only publickey is offered: set it to publickey", keyword, list)
	}
	return len(methods), nil
}

// checkMethods tells methods that sshd has from those that it has not.
func checkMethods(list string) error {
	known := []string{"none", "publickey", "password", "keyboard-interactive", "hostbased", "gssapi-with-mic"}
	for item := range strings.SplitSeq(list, ",") {
		method, _, _ := strings.Cut(item, ":")
		if !slices.Contains(known, method) {
			return says("Unknown authentication method %q in list", method)
		}
	}
	return nil
}

func checkName(keyword, arg string) error {
	if arg == "" {
		return says("invalid %s pattern: %q", keyword, arg)
	}
	return nil
}

func checkEnvPattern(_, arg string) error {
	if arg == "" || strings.Contains(arg, "=") {
		return says("Invalid environment name: %q: want a name or a pattern", arg)
	}
	return nil
}
