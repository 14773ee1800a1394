package sshdconfig

import (
	"fmt"
	"strings"
)

// setChannelTimeout takes TYPE=TIME of one line, or "none" alone.
func setChannelTimeout(v *values, d *directive) error {
	args, err := d.some()
	if err != nil {
		return err
	}
	v.timeouts, v.ChannelTimeouts = args, nil
	for _, arg := range args {
		if noneOr(arg) != "" {
			err = v.addTimeout(arg)
		} else if len(args) > 1 {
			err = fmt.Errorf(`keyword %s "none" argument must appear alone`, d.spelt)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *values) addTimeout(arg string) error {
	types, limit, ok := strings.Cut(arg, "=")
	idle, err := parseDuration(limit)
	if !ok || types == "" || err != nil {
		return fmt.Errorf("invalid channel timeout %s: want TYPE=TIME", arg)
	}
	v.ChannelTimeouts = append(v.ChannelTimeouts, ChannelTimeout{Pattern: types, Idle: idle})
	return nil
}
