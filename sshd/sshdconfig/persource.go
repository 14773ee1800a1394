package sshdconfig

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// setPerSourceMaxStartups takes a number, or "none".
func setPerSourceMaxStartups(v *values, d *directive) error {
	arg, err := d.one()
	if err != nil {
		return err
	}
	v.PerSource.MaxStartups = 0
	if arg == "none" {
		return nil
	}
	if v.PerSource.MaxStartups, err = parseCount(arg); err != nil {
		return says("%s %v", d.spelt, err)
	}
	if v.PerSource.MaxStartups == 0 {
		return errors.New("PerSourceMaxStartups 0 would let nobody in: want a number or none")
	}
	return nil
}

// setNetBlockSize takes the bits of IPv4 addresses and those of IPv6, which are
// none at all if left out: all of IPv6 is one network then, as for sshd.
func setNetBlockSize(v *values, d *directive) error {
	arg, err := d.one()
	if err != nil {
		return err
	}
	four, six, both := strings.Cut(arg, ":")
	v.PerSource.Prefix6 = 0
	v.PerSource.Prefix4, err = parseBits(four, 32)
	if err == nil && both {
		v.PerSource.Prefix6, err = parseBits(six, 128)
	}
	if err != nil {
		return says("Invalid %s spec: %v", d.spelt, err)
	}
	return nil
}

func parseBits(arg string, most int) (int, error) {
	bits, err := strconv.ParseUint(arg, 10, 8)
	if err != nil || int(bits) > most {
		return 0, fmt.Errorf("%q: want a number of bits up to %d", arg, most)
	}
	return int(bits), nil
}
