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
	if v.PerSource.MaxStartups, err = parseCount(arg); err == nil && v.PerSource.MaxStartups == 0 {
		err = errors.New("PerSourceMaxStartups 0 would let nobody in: want a number or none")
	}
	return err
}

// setNetBlockSize takes the bits of IPv4 addresses, or those and the ones of IPv6.
func setNetBlockSize(v *values, d *directive) error {
	arg, err := d.one()
	if err != nil {
		return err
	}
	four, six, both := strings.Cut(arg, ":")
	if v.PerSource.Prefix4, err = parseBits(four, 32); err != nil {
		return fmt.Errorf("%s IPv4 %w", d.spelt, err)
	}
	if !both {
		return nil
	}
	if v.PerSource.Prefix6, err = parseBits(six, 128); err != nil {
		return fmt.Errorf("%s IPv6 %w", d.spelt, err)
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
