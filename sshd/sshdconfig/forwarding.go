package sshdconfig

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// permit reads where forwardings may lead: "any" is nil, "none" an empty list,
// and everything else a list of HOST:PORT.
func permit(complete func(string) string, field func(*values) *[]string) setter {
	return func(v *values, d *directive) error {
		args, err := d.some()
		if err != nil {
			return err
		}
		*field(v) = nil
		if len(args) == 1 && args[0] == "any" {
			return nil
		}
		list := []string{}
		if len(args) == 1 && args[0] == "none" {
			*field(v) = list
			return nil
		}
		for _, arg := range args {
			target := complete(arg)
			if err := checkTarget(target); err != nil {
				return says("%s %v", d.spelt, err)
			}
			list = append(list, target)
		}
		*field(v) = list
		return nil
	}
}

func asWritten(arg string) string { return arg }

// atAnyHost lets a port stand alone.
func atAnyHost(arg string) string {
	if strings.Contains(arg, ":") {
		return arg
	}
	return "*:" + arg
}

// checkTarget takes HOST:PORT, with * for any port.
func checkTarget(target string) error {
	_, port, err := net.SplitHostPort(target)
	if err == nil && port == "*" {
		return nil
	}
	if n, bad := parsePort(port); err != nil || bad != nil || n == 0 {
		return fmt.Errorf("bad port number: %q: want HOST:PORT", target)
	}
	return nil
}

// parseMask reads an umask in octal.
func parseMask(arg string) (int, error) {
	mask, err := strconv.ParseUint(arg, 8, 32)
	if err != nil || mask > 0o777 {
		return 0, says("Invalid StreamLocalBindMask: %q: want octal digits up to 777", arg)
	}
	return int(mask), nil
}
