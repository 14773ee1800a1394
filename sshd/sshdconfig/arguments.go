package sshdconfig

import "fmt"

// one returns the only argument of a directive.
func (d *directive) one() (string, error) {
	if len(d.args) == 0 || d.args[0] == "" {
		return "", fmt.Errorf("%s missing argument", d.spelt)
	}
	if len(d.args) > 1 {
		return "", d.tooMany()
	}
	return d.args[0], nil
}

// some returns the arguments of a directive that takes one or more.
func (d *directive) some() ([]string, error) {
	if len(d.args) == 0 {
		return nil, fmt.Errorf("%s missing argument", d.spelt)
	}
	for _, arg := range d.args {
		if arg == "" {
			return nil, counts("keyword %s empty argument", d.spelt)
		}
	}
	return d.args, nil
}

func (d *directive) tooMany() error {
	return counts("keyword %s extra arguments at end of line", d.spelt)
}

func (d *directive) notAlone(arg string) error {
	return counts("keyword %s %q argument must appear alone", d.spelt, arg)
}
