package sshdconfig

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
)

func parseFlag(arg string) (bool, error) {
	switch strings.ToLower(arg) {
	case "yes":
		return true, nil
	case "no":
		return false, nil
	}
	return false, fmt.Errorf("unsupported option %q", arg)
}

// parseCount reads a number that fits an int of C's.
func parseCount(arg string) (int, error) {
	n, err := strconv.ParseInt(arg, 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return 0, says("integer value invalid: %q", arg)
	case n < 0:
		return 0, says("integer value too small: %s", arg)
	case n > math.MaxInt32:
		return 0, says("integer value too large: %s", arg)
	}
	return int(n), nil
}

// parsePort takes a number, 0 included.
func parsePort(arg string) (int, error) {
	n, err := strconv.ParseUint(arg, 10, 16)
	if err != nil {
		return 0, says("Badly formatted port number: %q", arg)
	}
	return int(n), nil
}

var secondsPerUnit = map[byte]uint64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}

// parseDuration reads the TIME FORMATS of sshd_config(5), such as 90, 1h30m or
// 2w. A number without a unit is in seconds.
func parseDuration(arg string) (time.Duration, error) {
	invalid := fmt.Errorf("invalid time value: %q: want seconds, or numbers with s, m, h, d or w as in 1h30m", arg)
	total, rest := uint64(0), strings.ToLower(arg)
	if rest == "" {
		return 0, invalid
	}
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.ParseUint(rest[:digits], 10, 31)
		if err != nil {
			return 0, invalid
		}
		unit := uint64(1)
		if rest = rest[digits:]; rest != "" {
			unit = secondsPerUnit[rest[0]]
			rest = rest[1:]
		}
		total += n * unit
		if unit == 0 || total > math.MaxInt32 {
			return 0, invalid
		}
	}
	return time.Duration(total) * time.Second, nil
}

// parseSize reads a number of bytes, with K, M or G for powers of 1024.
func parseSize(arg string) (uint64, error) {
	digits := strings.TrimRight(arg, "KkMmGg")
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || len(arg)-len(digits) > 1 {
		return 0, fmt.Errorf("want a number, or one with K, M or G")
	}
	switch strings.ToUpper(arg[len(digits):]) {
	case "K":
		n <<= 10
	case "M":
		n <<= 20
	case "G":
		n <<= 30
	}
	return n, nil
}

var errHostPort = errors.New("bad address:port usage")

// parseListen reads host, host:port, [host]:port or a bare IPv6 address.
func parseListen(arg string) (listenAddress, error) {
	if strings.Count(arg, ":") > 1 && !strings.HasPrefix(arg, "[") {
		return listenAddress{host: arg}, nil
	}
	if bare, ok := strings.CutPrefix(arg, "["); ok && strings.HasSuffix(bare, "]") {
		return listenAddress{host: strings.TrimSuffix(bare, "]")}, nil
	}
	if !strings.Contains(arg, ":") {
		return listenAddress{host: arg}, nil
	}
	host, port, err := net.SplitHostPort(arg)
	if err != nil || host == "" {
		return listenAddress{}, errHostPort
	}
	if _, err := parsePort(port); err != nil {
		return listenAddress{}, errors.New("bad port number")
	}
	return listenAddress{host: host, port: port}, nil
}
