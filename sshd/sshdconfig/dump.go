package sshdconfig

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Dump writes the values in force for a connection the way sshd -T does: one
// line for each, the keyword in lower case, lists of several lines repeated.
// The zero connection is one that meets no Match block. Values, their spelling
// and order are those of OpenSSH 9.2 as Debian builds it; what came later to
// OpenSSH is shown where it was set, beside what it was put beside there.
func (c *Config) Dump(conn Connection) (string, error) {
	v, err := c.decide(conn)
	if err != nil {
		return "", err
	}
	d := &dump{values: v}
	for _, port := range c.ports {
		d.line("port", strconv.Itoa(port))
	}
	d.line("addressfamily", c.server.AddressFamily)
	d.each("listenaddress", listenTexts(c.server))
	for _, entry := range dumped {
		entry.write(d, entry.keyword)
	}
	return d.text.String(), nil
}

type dump struct {
	*values
	text strings.Builder
}

func (d *dump) line(keyword, value string) { fmt.Fprintln(&d.text, keyword, value) }

// each writes a line for each value of a list.
func (d *dump) each(keyword string, list []string) {
	for _, value := range list {
		d.line(keyword, value)
	}
}

// joined writes a list as one line, unless it is empty.
func (d *dump) joined(keyword string, list []string, separator string) {
	if len(list) > 0 {
		d.line(keyword, strings.Join(list, separator))
	}
}

// writer writes the lines of one keyword.
type writer func(d *dump, keyword string)

// text writes "none" for nothing.
func text(of func(*values) string) writer {
	return func(d *dump, keyword string) {
		value := of(d.values)
		if value == "" {
			value = "none"
		}
		d.line(keyword, value)
	}
}

func whole(of func(*values) int) writer {
	return text(func(v *values) string { return strconv.Itoa(of(v)) })
}

func switched(of func(*values) bool) writer {
	return text(func(v *values) string { return flagText(of(v)) })
}

func perLine(of func(*values) []string) writer {
	return func(d *dump, keyword string) { d.each(keyword, of(d.values)) }
}

func commaList(of func(*values) []string, standard []string) writer {
	return func(d *dump, keyword string) {
		list := of(d.values)
		if len(list) == 0 {
			list = standard
		}
		d.joined(keyword, list, ",")
	}
}

// constant is the value of a directive that may be given that value only, or
// that changes nothing and has one that sshd has if nothing is given.
func constant(value string) writer {
	return func(d *dump, keyword string) {
		if written, ok := d.written[keyword]; ok {
			d.line(keyword, noneText(written))
			return
		}
		d.line(keyword, value)
	}
}

func noneText(value string) string {
	if noneOr(value) == "" {
		return "none"
	}
	return value
}

// ifWritten shows a directive that is not there by default.
func ifWritten(d *dump, keyword string) {
	if value := d.written[keyword]; value != "" {
		d.line(keyword, value)
	}
}

// listenTexts are the addresses that a server listens on, as numbers.
func listenTexts(s Server) []string {
	var list []string
	for _, address := range s.Listen {
		host, port, _ := net.SplitHostPort(address)
		for _, ip := range resolve(host, s.AddressFamily) {
			list = append(list, net.JoinHostPort(ip, port))
		}
	}
	return list
}

// resolve gives the addresses of a host, or the host itself if it has none.
func resolve(host, family string) []string {
	if host == "" {
		return ofFamily(family, "::", "0.0.0.0")
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return []string{host}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(found) == 0 {
		return []string{host}
	}
	slices.Reverse(found) // as sshd shows them
	texts := make([]string, len(found))
	for i, ip := range found {
		texts[i] = ip.Unmap().String()
	}
	return ofFamily(family, texts...)
}

// ofFamily keeps the addresses of an AddressFamily.
func ofFamily(family string, addresses ...string) []string {
	return slices.DeleteFunc(addresses, func(address string) bool {
		six := strings.Contains(address, ":")
		return family == "inet" && six || family == "inet6" && !six
	})
}

// hostKeyNames are the files that host keys are looked for in.
func hostKeyNames(v *values) []string {
	if len(v.HostKeys) > 0 {
		return v.HostKeys
	}
	return []string{"/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ed25519_key"}
}

func subsystems(v *values) []string {
	var list []string
	for _, name := range v.subsystems {
		list = append(list, name+" "+v.Subsystems[name])
	}
	return list
}

func rootLoginText(v *values) string {
	if v.PermitRootLogin == "prohibit-password" {
		return "without-password" // its older name
	}
	return v.PermitRootLogin
}

func logLevelText(v *values) string {
	switch v.LogLevel {
	case "QUIET":
		return "SILENT"
	case "DEBUG1":
		return "DEBUG"
	}
	return v.LogLevel
}

// userEnvironment is a list of patterns as sshd has it.
func userEnvironment(v *values) string {
	switch v.PermitUserEnvironment {
	case "*":
		return "yes"
	case "":
		return "no"
	}
	return v.PermitUserEnvironment
}

// permitted is a list of targets as sshd has it.
func permitted(list []string) string {
	switch {
	case list == nil:
		return "any"
	case len(list) == 0:
		return "none"
	}
	return strings.Join(list, " ")
}

func perSourceStartups(v *values) string {
	if v.PerSource.MaxStartups == 0 {
		return "none"
	}
	return strconv.Itoa(v.PerSource.MaxStartups)
}

func touchOption(v *values) string {
	if v.TouchRequired {
		return "touch-required"
	}
	return "none"
}

func unusedTimeout(v *values) string {
	if v.UnusedConnectionTimeout == 0 {
		return "none"
	}
	return seconds(v.UnusedConnectionTimeout)
}
