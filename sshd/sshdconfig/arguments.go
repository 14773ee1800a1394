package sshdconfig

import "fmt"

// one returns the only argument of a directive.
func (d *directive) one() (string, error) {
	if len(d.args) == 0 || d.args[0] == "" {
		return "", fmt.Errorf("%s missing argument", d.spelt)
	}
	if len(d.args) > 1 {
		return "", fmt.Errorf("keyword %s extra arguments at end of line", d.spelt)
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
			return nil, fmt.Errorf("keyword %s empty argument", d.spelt)
		}
	}
	return d.args, nil
}
