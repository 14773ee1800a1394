package sshdconfig

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
)

// Dump writes the values in force for a connection the way sshd -T does: one
// line for each, the keyword in lower case, lists of several lines repeated.
// Algorithm lists are left out where the library's defaults apply.
func (c *Config) Dump(conn Connection) (string, error) {
	s, err := c.For(conn)
	if err != nil {
		return "", err
	}
	d := &dump{}
	d.server(c.server)
	d.settings(s)
	return d.String(), nil
}

type dump struct{ strings.Builder }

// value writes a line; a bool becomes yes or no and an empty text none.
func (d *dump) value(keyword string, value any) {
	switch v := value.(type) {
	case bool:
		value = map[bool]string{true: "yes", false: "no"}[v]
	case string:
		if v == "" {
			value = "none"
		}
	}
	fmt.Fprintln(d, keyword, value)
}

// each writes a line for each value of a list.
func (d *dump) each(keyword string, list []string) {
	for _, value := range list {
		d.value(keyword, value)
	}
}

// joined writes a list as one line, unless it is empty.
func (d *dump) joined(keyword string, list []string, separator string) {
	if len(list) > 0 {
		d.value(keyword, strings.Join(list, separator))
	}
}

func (d *dump) server(s Server) {
	for _, address := range s.Listen {
		host, port, _ := net.SplitHostPort(address)
		if host != "" {
			d.value("listenaddress", address)
			continue
		}
		if s.AddressFamily != "inet" {
			d.value("listenaddress", net.JoinHostPort("::", port))
		}
		if s.AddressFamily != "inet6" {
			d.value("listenaddress", net.JoinHostPort("0.0.0.0", port))
		}
	}
	d.value("addressfamily", s.AddressFamily)
	d.each("hostkey", s.HostKeys)
	d.value("logingracetime", int(s.LoginGraceTime.Seconds()))
	d.value("maxstartups", fmt.Sprintf("%d:%d:%d", s.MaxStartups.Begin, s.MaxStartups.Rate, s.MaxStartups.Full))
	d.value("pidfile", s.PidFile)
	d.value("versionaddendum", s.VersionAddendum)
	d.value("tcpkeepalive", s.TCPKeepAlive)
	d.joined("ciphers", s.Ciphers, ",")
	d.joined("macs", s.MACs, ",")
	d.joined("kexalgorithms", s.KexAlgorithms, ",")
	d.joined("hostkeyalgorithms", s.HostKeyAlgorithms, ",")
}

func (d *dump) settings(s Settings) {
	d.value("permitrootlogin", s.PermitRootLogin)
	d.value("pubkeyauthentication", s.PubkeyAuthentication)
	d.value("authorizedkeysfile", strings.Join(s.AuthorizedKeysFiles, " "))
	d.value("strictmodes", s.StrictModes)
	d.value("maxauthtries", s.MaxAuthTries)
	d.value("requiredrsasize", s.RequiredRSASize)
	d.each("allowusers", s.AllowUsers)
	d.each("denyusers", s.DenyUsers)
	d.each("allowgroups", s.AllowGroups)
	d.each("denygroups", s.DenyGroups)
	d.value("chrootdirectory", s.ChrootDirectory)
	d.value("forcecommand", s.ForceCommand)
	for _, name := range slices.Sorted(maps.Keys(s.Subsystems)) {
		d.value("subsystem", name+" "+s.Subsystems[name])
	}
	d.value("permittty", s.PermitTTY)
	d.each("acceptenv", s.AcceptEnv)
	d.each("setenv", s.SetEnv)
	d.value("permituserenvironment", userEnvironment(s.PermitUserEnvironment))
	d.value("maxsessions", s.MaxSessions)
	d.value("banner", s.Banner)
	d.value("loglevel", s.LogLevel)
	d.value("rekeylimit", fmt.Sprintf("%d 0", s.RekeyLimit))
	d.joined("pubkeyacceptedalgorithms", s.PubkeyAcceptedAlgorithms, ",")
	d.value("printmotd", s.PrintMotd)
	d.value("clientaliveinterval", int(s.ClientAliveInterval.Seconds()))
	d.value("clientalivecountmax", s.ClientAliveCountMax)
}

// userEnvironment is a list of patterns as sshd has it.
func userEnvironment(patterns string) string {
	switch patterns {
	case "*":
		return "yes"
	case "":
		return "no"
	}
	return patterns
}
