package sshdconfig

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// dumped are the lines of a dump after those about listening, in sshd's order.
var dumped = []struct {
	keyword string
	write   writer
}{
	{"usepam", constant("no")},
	{"pamservicename", ifWritten},
	{"logingracetime", text(func(v *values) string { return seconds(v.LoginGraceTime) })},
	{"x11displayoffset", constant("10")},
	{"maxauthtries", whole(func(v *values) int { return v.MaxAuthTries })},
	{"maxsessions", whole(func(v *values) int { return v.MaxSessions })},
	{"clientaliveinterval", text(func(v *values) string { return seconds(v.ClientAliveInterval) })},
	{"clientalivecountmax", whole(func(v *values) int { return v.ClientAliveCountMax })},
	{"requiredrsasize", whole(func(v *values) int { return v.RequiredRSASize })},
	{"streamlocalbindmask", text(func(v *values) string { return fmt.Sprintf("0%o", v.StreamLocalBindMask) })},
	{"unusedconnectiontimeout", text(unusedTimeout)},
	{"permitrootlogin", text(rootLoginText)},
	{"ignorerhosts", constant("yes")},
	{"ignoreuserknownhosts", constant("no")},
	{"hostbasedauthentication", constant("no")},
	{"hostbasedusesnamefrompacketonly", constant("no")},
	{"pubkeyauthentication", switched(func(v *values) bool { return v.PubkeyAuthentication })},
	{"kerberosauthentication", constant("no")},
	{"kerberosorlocalpasswd", constant("yes")},
	{"kerberosticketcleanup", constant("yes")},
	{"gssapiauthentication", constant("no")},
	{"gssapicleanupcredentials", constant("yes")},
	{"gssapikeyexchange", constant("no")},
	{"gssapistrictacceptorcheck", constant("yes")},
	{"gssapistorecredentialsonrekey", constant("no")},
	{"gssapikexalgorithms", constant("gss-group14-sha256-,gss-group16-sha512-,gss-nistp256-sha256-,gss-curve25519-sha256-,gss-group14-sha1-,gss-gex-sha1-")},
	{"passwordauthentication", constant("no")},
	{"kbdinteractiveauthentication", constant("no")},
	{"printmotd", switched(func(v *values) bool { return v.PrintMotd })},
	{"printlastlog", constant("yes")},
	{"x11forwarding", constant("no")},
	{"x11uselocalhost", constant("yes")},
	{"permittty", switched(func(v *values) bool { return v.PermitTTY })},
	{"permituserrc", switched(func(v *values) bool { return v.PermitUserRC })},
	{"strictmodes", switched(func(v *values) bool { return v.StrictModes })},
	{"tcpkeepalive", switched(func(v *values) bool { return v.TCPKeepAlive })},
	{"permitemptypasswords", constant("no")},
	{"compression", constant("yes")},
	{"gatewayports", text(func(v *values) string { return v.GatewayPorts })},
	{"usedns", switched(func(v *values) bool { return v.UseDNS })},
	{"allowtcpforwarding", text(func(v *values) string { return v.AllowTCPForwarding })},
	{"allowagentforwarding", switched(func(v *values) bool { return v.AllowAgentForwarding })},
	{"disableforwarding", switched(func(v *values) bool { return v.DisableForwarding })},
	{"allowstreamlocalforwarding", text(func(v *values) string { return v.AllowStreamLocalForwarding })},
	{"streamlocalbindunlink", switched(func(v *values) bool { return v.StreamLocalBindUnlink })},
	{"fingerprinthash", text(func(v *values) string { return strings.ToUpper(v.FingerprintHash) })},
	{"exposeauthinfo", switched(func(v *values) bool { return v.ExposeAuthInfo })},
	{"refuseconnection", func(d *dump, keyword string) {
		if d.RefuseConnection {
			d.line(keyword, "yes")
		}
	}},
	{"pidfile", text(func(v *values) string { return v.PidFile })},
	{"modulifile", constant("/etc/ssh/moduli")},
	{"xauthlocation", constant("/usr/bin/xauth")},
	{"ciphers", commaList(func(v *values) []string { return v.Ciphers }, ciphers.standard)},
	{"macs", commaList(func(v *values) []string { return v.MACs }, macs.standard)},
	{"banner", text(func(v *values) string { return v.Banner })},
	{"forcecommand", text(func(v *values) string { return v.ForceCommand })},
	{"chrootdirectory", text(func(v *values) string { return v.ChrootDirectory })},
	{"trustedusercakeys", text(func(v *values) string { return v.TrustedUserCAKeys })},
	{"revokedkeys", text(func(v *values) string { return strings.Join(v.RevokedKeys, " ") })},
	{"securitykeyprovider", constant("internal")},
	{"authorizedprincipalsfile", text(func(v *values) string { return v.AuthorizedPrincipalsFile })},
	{"versionaddendum", text(func(v *values) string { return v.VersionAddendum })},
	{"authorizedkeyscommand", text(func(v *values) string { return v.AuthorizedKeysCommand })},
	{"authorizedkeyscommanduser", text(func(v *values) string { return v.AuthorizedKeysCommandUser })},
	{"authorizedprincipalscommand", text(func(v *values) string { return v.AuthorizedPrincipalsCommand })},
	{"authorizedprincipalscommanduser", text(func(v *values) string { return v.AuthorizedPrincipalsCommandUser })},
	{"hostkeyagent", constant("none")},
	{"kexalgorithms", commaList(func(v *values) []string { return v.KexAlgorithms }, keyExchanges.standard)},
	{"casignaturealgorithms", commaList(func(v *values) []string { return v.CASignatureAlgorithms }, signatureTypes.standard)},
	{"hostbasedacceptedalgorithms", constant(strings.Join(userKeyTypes.standard, ","))},
	{"hostkeyalgorithms", commaList(func(v *values) []string { return v.HostKeyAlgorithms }, hostKeyTypes.standard)},
	{"pubkeyacceptedalgorithms", commaList(func(v *values) []string { return v.PubkeyAcceptedAlgorithms }, userKeyTypes.standard)},
	{"sshdsessionpath", ifWritten},
	{"sshdauthpath", ifWritten},
	{"persourcepenaltyexemptlist", func(d *dump, keyword string) {
		if d.PerSource.Exempt != "" {
			d.line(keyword, d.PerSource.Exempt)
		}
	}},
	{"loglevel", text(logLevelText)},
	{"syslogfacility", text(func(v *values) string { return v.SyslogFacility })},
	{"authorizedkeysfile", func(d *dump, keyword string) {
		if ifWritten(d, keyword); d.written[keyword] == "" {
			d.joined(keyword, d.AuthorizedKeysFiles, " ")
		}
	}},
	{"hostkey", perLine(hostKeyNames)},
	{"hostcertificate", perLine(func(v *values) []string { return v.HostCertificates })},
	{"allowusers", perLine(func(v *values) []string { return v.AllowUsers })},
	{"denyusers", perLine(func(v *values) []string { return v.DenyUsers })},
	{"allowgroups", perLine(func(v *values) []string { return v.AllowGroups })},
	{"denygroups", perLine(func(v *values) []string { return v.DenyGroups })},
	{"acceptenv", perLine(func(v *values) []string { return v.AcceptEnv })},
	{"setenv", perLine(func(v *values) []string { return v.SetEnv })},
	{"authenticationmethods", constant("any")},
	{"logverbose", ifWritten},
	{"channeltimeout", ifWritten},
	{"subsystem", perLine(subsystems)},
	{"maxstartups", text(func(v *values) string {
		return fmt.Sprintf("%d:%d:%d", v.MaxStartups.Begin, v.MaxStartups.Rate, v.MaxStartups.Full)
	})},
	{"persourcemaxstartups", text(perSourceStartups)},
	{"persourcenetblocksize", text(func(v *values) string {
		return fmt.Sprintf("%d:%d", v.PerSource.Prefix4, v.PerSource.Prefix6)
	})},
	{"permittunnel", constant("no")},
	{"ipqos", text(func(v *values) string { return serviceName(v.IPQoS[0]) + " " + serviceName(v.IPQoS[1]) })},
	{"rekeylimit", text(func(v *values) string { return fmt.Sprintf("%d 0", v.RekeyLimit) })},
	{"permitopen", text(func(v *values) string { return permitted(v.PermitOpen) })},
	{"permitlisten", text(func(v *values) string { return permitted(v.PermitListen) })},
	{"permituserenvironment", text(userEnvironment)},
	{"pubkeyauthoptions", text(touchOption)},
	{"persourcepenalties", func(d *dump, keyword string) {
		if d.PerSource.Penalties.Enabled {
			d.line(keyword, d.PerSource.Penalties.String())
		}
	}},
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
