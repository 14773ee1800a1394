package sshdconfig

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// offOnly accepts a feature that this server lacks when it is switched off, and
// refuses it when it is switched on: who asks for it relies on it. The
// keyword's note is the reason.
func offOnly(off string) setter {
	return func(_ *values, d *directive) error {
		arg, err := d.one()
		if err != nil {
			return err
		}
		if _, err := parseFlag(arg); err != nil && off == "no" && !isTunnel(arg) {
			return err
		}
		if !strings.EqualFold(arg, off) {
			return fmt.Errorf("%s %s is not supported: %s: set it to %s or remove the line", d.spelt, arg, d.keyword.note, off)
		}
		return nil
	}
}

// isTunnel tells whether a word is one of PermitTunnel's.
func isTunnel(arg string) bool {
	return slices.Contains([]string{"ethernet", "point-to-point"}, strings.ToLower(arg))
}

// obsolete accepts anything.
func obsolete(v *values, d *directive) error {
	v.note("ignored: %s", d.keyword.note)
	return nil
}

// ignored accepts a directive that changes nothing here, if its argument is
// one that sshd would accept, too. A dump shows the argument as form has it.
func ignored(form func(string) (string, error)) setter {
	return func(v *values, d *directive) error {
		arg, err := d.one()
		if err != nil {
			return err
		}
		text, err := form(arg)
		v.written[d.keyword.key()] = text
		v.note("ignored: %s", d.keyword.note)
		return err
	}
}

// The forms that an ignored argument may have.

func anyText(arg string) (string, error) { return arg, nil }

func yesNo(arg string) (string, error) {
	on, err := parseFlag(arg)
	return flagText(on), err
}

func number(arg string) (string, error) {
	n, err := parseCount(arg)
	if err != nil {
		return "", says("X11DisplayOffset %v", err)
	}
	return strconv.Itoa(n), nil
}

// oneOf gives the spelling that the table has for a word in upper or lower case.
func oneOf(words map[string]string) func(string) (string, error) {
	return func(arg string) (string, error) {
		if word, ok := words[strings.ToLower(arg)]; ok {
			return word, nil
		}
		return "", fmt.Errorf("unsupported option %q", arg)
	}
}

func keyTypeList(arg string) (string, error) {
	list, _, err := userKeyTypes.resolve(arg)
	return strings.Join(list, ","), err
}

func flagText(on bool) string {
	if on {
		return "yes"
	}
	return "no"
}
