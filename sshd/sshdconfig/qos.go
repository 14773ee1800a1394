package sshdconfig

import (
	"fmt"
	"strconv"
	"strings"
)

// serviceTypes are the names of type-of-service octets, in the order in which
// the first one names a value in a dump.
var serviceTypes = []struct {
	name  string
	value int
}{
	{"af11", 0x28}, {"af12", 0x30}, {"af13", 0x38}, {"af21", 0x48}, {"af22", 0x50}, {"af23", 0x58},
	{"af31", 0x68}, {"af32", 0x70}, {"af33", 0x78}, {"af41", 0x88}, {"af42", 0x90}, {"af43", 0x98},
	{"cs0", 0x00}, {"cs1", 0x20}, {"cs2", 0x40}, {"cs3", 0x60}, {"cs4", 0x80}, {"cs5", 0xa0}, {"cs6", 0xc0}, {"cs7", 0xe0},
	{"ef", 0xb8}, {"le", 0x04}, {"lowdelay", 0x10}, {"throughput", 0x08}, {"reliability", 0x04},
}

// unmarked leaves a connection's packets alone.
const unmarked = -1

// setIPQoS takes one value for all sessions, or one for terminals and one for
// everything else.
func setIPQoS(v *values, d *directive) error {
	args, err := d.some()
	if err != nil {
		return err
	}
	if len(args) > 2 {
		return d.tooMany()
	}
	for i := range v.IPQoS {
		arg := args[min(i, len(args)-1)]
		if v.IPQoS[i], err = parseService(arg); err != nil {
			return says("Bad %s value: %s", d.spelt, arg)
		}
	}
	return nil
}

func parseService(arg string) (int, error) {
	if noneOr(arg) == "" {
		return unmarked, nil
	}
	for _, s := range serviceTypes {
		if strings.EqualFold(s.name, arg) {
			return s.value, nil
		}
	}
	value, err := strconv.ParseUint(arg, 0, 8)
	return int(value), err
}

func serviceName(value int) string {
	if value == unmarked {
		return "none"
	}
	for _, s := range serviceTypes {
		if s.value == value {
			return s.name
		}
	}
	return fmt.Sprintf("0x%02x", value)
}
