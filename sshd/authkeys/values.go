package authkeys

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setExpiry takes a date, YYYYMMDD or YYYYMMDDHHMM[SS], in the local time zone
// unless a Z or UTC follows. Of several the earliest counts.
func (o *Options) setExpiry(value string) error {
	expiry, err := parseTime(value)
	if err != nil {
		return err
	}
	if o.Expiry.IsZero() || expiry.Before(o.Expiry) {
		o.Expiry = expiry
	}
	return nil
}

func parseTime(value string) (time.Time, error) {
	zone := time.Local
	digits := value
	for _, suffix := range []string{"Z", "UTC"} {
		if cut, ok := strings.CutSuffix(strings.ToUpper(value), suffix); ok {
			zone, digits = time.UTC, cut
		}
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(layout) != len(digits) {
			continue
		}
		if t, err := time.ParseInLocation(layout, digits, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time: use YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with Z for UTC", value)
}

// addEnvironment takes NAME=value; a name that the line has set keeps its value.
func (o *Options) addEnvironment(value string) error {
	name, _, ok := strings.Cut(value, "=")
	if !ok || strings.ContainsFunc(name, notInName) {
		return fmt.Errorf("%q is not NAME=value", value)
	}
	taken := func(pair string) bool { return strings.HasPrefix(pair, name+"=") }
	if slices.ContainsFunc(o.Environment, taken) {
		return nil
	}
	o.Environment = append(o.Environment, value)
	return nil
}

func notInName(r rune) bool {
	return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// addHostPort takes host:port with [host] for an IPv6 address and * for any port.
func addHostPort(list []string, value string) ([]string, error) {
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		return nil, err
	}
	if host == "" {
		return nil, errors.New("invalid permission hostname")
	}
	if n, err := strconv.ParseUint(port, 10, 16); port != "*" && (err != nil || n == 0) {
		return nil, fmt.Errorf("invalid permission port %q", port)
	}
	return append(list, net.JoinHostPort(host, port)), nil
}
