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
	v.ChannelTimeouts = nil
	if len(args) == 1 && noneOr(args[0]) == "" {
		return nil
	}
	v.written[d.keyword.key()] = strings.Join(args, " ")
	for _, arg := range args {
		if noneOr(arg) != "" {
			err = v.addTimeout(arg)
		} else {
			err = d.notAlone(arg)
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
