package sshdconfig

import (
	"strings"
	"sync"
	"time"
)

// keyword is what a directive may begin with. To support another directive, add
// a field to Settings or Server and a line to the table.
type keyword struct {
	names string // as sshd_config(5) spells it, then its other names
	scope scope
	kind  kind
	set   setter // nil for the kind structure
}

func (k *keyword) name() string {
	name, _, _ := strings.Cut(k.names, " ")
	return name
}

// scope says where a keyword may stand.
type scope int

const (
	anywhere scope = iota
	global         // not within a Match block
	server         // within one for sshd, but it is one value per server here
)

// kind says which of several lines for a keyword count.
type kind int

const (
	first     kind = iota // the first value
	wholeLine             // the first line, with all its values
	appending             // all lines
	keyed                 // the first line for each name
	structure             // the parser's own: Match and Include
)

func (k kind) firstWins() bool { return k == first || k == wholeLine }

var rootLogin = map[string]string{
	"yes": "yes", "no": "no", "prohibit-password": "prohibit-password", "without-password": "prohibit-password",
	"forced-commands-only": "forced-commands-only",
}

var logLevels = map[string]string{
	"silent": "QUIET", "quiet": "QUIET", "fatal": "FATAL", "error": "ERROR", "info": "INFO", "verbose": "VERBOSE",
	"debug": "DEBUG1", "debug1": "DEBUG1", "debug2": "DEBUG2", "debug3": "DEBUG3",
}

var addressFamilies = map[string]string{"any": "any", "inet": "inet", "inet6": "inet6"}

const (
	keysOnly = "only public keys are offered"
	obsolete = "obsolete in OpenSSH too"
	noX11    = "X11 is not forwarded"
	noHosts  = "host-based authentication is not offered"
	noSystem = "this server links no system libraries"
)

// keywords is the table of all directives, in the groups of their treatment.
var keywords = []keyword{
	{"Match", anywhere, structure, nil},
	{"Include", anywhere, structure, nil},

	// The server.
	{"Port", global, appending, addPort},
	{"ListenAddress", global, appending, addListenAddress},
	{"AddressFamily", global, first, choice(addressFamilies, func(v *values) *string { return &v.AddressFamily })},
	{"HostKey HostDsaKey", global, appending, addHostKey},
	{"LoginGraceTime", global, first, duration(func(v *values) *time.Duration { return &v.LoginGraceTime })},
	{"MaxStartups", global, first, setMaxStartups},
	{"LogLevel", server, first, choice(logLevels, func(v *values) *string { return &v.LogLevel })},
	{"PidFile", global, first, setPidFile},
	{"VersionAddendum", global, first, setVersionAddendum},
	{"RekeyLimit", server, first, setRekeyLimit},
	{"TCPKeepAlive KeepAlive", global, first, flag(func(v *values) *bool { return &v.TCPKeepAlive })},
	{"Ciphers", global, first, algorithmList(ciphers, func(v *values) *[]string { return &v.Ciphers })},
	{"MACs", global, first, algorithmList(macs, func(v *values) *[]string { return &v.MACs })},
	{"KexAlgorithms", global, first, algorithmList(keyExchanges, func(v *values) *[]string { return &v.KexAlgorithms })},
	{"HostKeyAlgorithms", global, first, algorithmList(hostKeyTypes, func(v *values) *[]string { return &v.HostKeyAlgorithms })},
	{"PubkeyAcceptedAlgorithms PubkeyAcceptedKeyTypes", server, first, algorithmList(userKeyTypes, func(v *values) *[]string { return &v.PubkeyAcceptedAlgorithms })},

	// Authentication.
	{"PermitRootLogin", anywhere, first, choice(rootLogin, func(v *values) *string { return &v.PermitRootLogin })},
	{"PubkeyAuthentication DSAAuthentication", anywhere, first, flag(func(v *values) *bool { return &v.PubkeyAuthentication })},
	{"AuthorizedKeysFile", anywhere, wholeLine, setAuthorizedKeysFile},
	{"StrictModes", global, first, flag(func(v *values) *bool { return &v.StrictModes })},
	{"MaxAuthTries", server, first, count(func(v *values) *int { return &v.MaxAuthTries })},
	{"RequiredRSASize", anywhere, first, count(func(v *values) *int { return &v.RequiredRSASize })},
	{"AllowUsers", anywhere, appending, list(checkUser, func(v *values) *[]string { return &v.AllowUsers })},
	{"DenyUsers", anywhere, appending, list(checkUser, func(v *values) *[]string { return &v.DenyUsers })},
	{"AllowGroups", anywhere, appending, list(anyName, func(v *values) *[]string { return &v.AllowGroups })},
	{"DenyGroups", anywhere, appending, list(anyName, func(v *values) *[]string { return &v.DenyGroups })},
	{"AuthenticationMethods", anywhere, wholeLine, checkAuthenticationMethods},

	// Sessions.
	{"ChrootDirectory", anywhere, first, name(func(v *values) *string { return &v.ChrootDirectory })},
	{"ForceCommand", anywhere, first, raw(func(v *values) *string { return &v.ForceCommand })},
	{"Subsystem", anywhere, keyed, addSubsystem},
	{"PermitTTY", anywhere, first, flag(func(v *values) *bool { return &v.PermitTTY })},
	{"AcceptEnv", anywhere, appending, list(checkEnvPattern, func(v *values) *[]string { return &v.AcceptEnv })},
	{"SetEnv", anywhere, wholeLine, setEnv},
	{"PermitUserEnvironment", global, first, setPermitUserEnvironment},
	{"MaxSessions", anywhere, first, count(func(v *values) *int { return &v.MaxSessions })},
	{"Banner", anywhere, first, file(func(v *values) *string { return &v.Banner })},
	{"PrintMotd", global, first, flag(func(v *values) *bool { return &v.PrintMotd })},
	{"ClientAliveInterval", anywhere, first, duration(func(v *values) *time.Duration { return &v.ClientAliveInterval })},
	{"ClientAliveCountMax", anywhere, first, count(func(v *values) *int { return &v.ClientAliveCountMax })},

	// Not yet effective. Nothing is forwarded, so that what restricts
	// forwarding is obeyed already, and no certificate is accepted.
	{"AllowTcpForwarding", anywhere, first, pending("no")},
	{"AllowStreamLocalForwarding", anywhere, first, pending("no")},
	{"AllowAgentForwarding", anywhere, first, pending("no")},
	{"DisableForwarding", anywhere, first, pending("yes")},
	{"GatewayPorts", anywhere, first, pending("no")},
	{"PermitOpen", anywhere, wholeLine, pending("none")},
	{"PermitListen", anywhere, wholeLine, pending("none")},
	{"StreamLocalBindMask", anywhere, first, pending()},
	{"StreamLocalBindUnlink", anywhere, first, pending()},
	{"HostCertificate", global, appending, pending("none")},
	{"TrustedUserCAKeys", anywhere, first, pending("none")},
	{"AuthorizedPrincipalsFile", anywhere, first, pending("none")},
	{"AuthorizedPrincipalsCommand", anywhere, first, pending("none")},
	{"AuthorizedPrincipalsCommandUser", anywhere, first, pending("none")},
	{"CASignatureAlgorithms", anywhere, first, pending()},
	{"AuthorizedKeysCommand", anywhere, first, pending("none")},
	{"AuthorizedKeysCommandUser", anywhere, first, pending("none")},
	{"PerSourceMaxStartups", global, first, pending("none")},
	{"PerSourceNetBlockSize", global, first, pending()},
	{"PerSourcePenalties", global, appending, pending("no")},
	{"PerSourcePenaltyExemptList", global, first, pending("none")},
	{"UnusedConnectionTimeout", anywhere, first, pending("none", "0")},
	{"ChannelTimeout", anywhere, wholeLine, pending("none")},
	{"PermitUserRC", anywhere, first, pending("no")},
	{"ExposeAuthInfo", anywhere, first, pending("no")},
	{"FingerprintHash", global, first, pending("sha256")},
	{"LogVerbose", anywhere, wholeLine, pending("none")},
	{"IPQoS", anywhere, first, pending("none")},
	{"UseDNS", global, first, pending("no")},

	// Accepted when off, refused when on.
	{"PasswordAuthentication", anywhere, first, offOnly("no", keysOnly)},
	{"KbdInteractiveAuthentication ChallengeResponseAuthentication SkeyAuthentication", anywhere, first, offOnly("no", keysOnly)},
	{"PermitEmptyPasswords", anywhere, first, offOnly("no", keysOnly)},
	{"HostbasedAuthentication", anywhere, first, offOnly("no", keysOnly)},
	{"GSSAPIAuthentication", anywhere, first, offOnly("no", keysOnly)},
	{"GSSAPIKeyExchange", global, first, offOnly("no", keysOnly)},
	{"KerberosAuthentication", anywhere, first, offOnly("no", keysOnly)},
	{"UsePAM", global, first, offOnly("no", noSystem)},
	{"X11Forwarding", anywhere, first, offOnly("no", noX11)},
	{"PermitTunnel", anywhere, first, offOnly("no", "this server makes no tunnel devices")},
	{"RDomain", anywhere, first, offOnly("none", "Linux has no routing domains")},
	{"HostKeyAgent", global, first, offOnly("none", "host keys are read from files")},
	{"SecurityKeyProvider", global, first, offOnly("internal", noSystem)},
	{"PubkeyAuthOptions", anywhere, first, offOnly("none", "a touch is always required, and verification cannot be checked")},
	{"RevokedKeys", anywhere, wholeLine, offOnly("none", "revocation lists are not read, and revoked keys must not get in")},
	{"RefuseConnection", anywhere, first, offOnly("no", "connections cannot be refused by a Match block, use DenyUsers")},

	// Accepted and ignored.
	{"SyslogFacility", global, first, ignored("nothing is logged to syslog")},
	{"Compression", global, first, ignored("data is never compressed")},
	{"PrintLastLog", global, first, ignored("no login records are kept")},
	{"X11DisplayOffset", anywhere, first, ignored(noX11)},
	{"X11UseLocalhost", anywhere, first, ignored(noX11)},
	{"XAuthLocation", global, first, ignored(noX11)},
	{"ModuliFile", global, first, ignored("the group-exchange primes are built in")},
	{"IgnoreRhosts", anywhere, first, ignored(noHosts)},
	{"IgnoreUserKnownHosts", global, first, ignored(noHosts)},
	{"HostbasedAcceptedAlgorithms HostbasedAcceptedKeyTypes", anywhere, first, ignored(noHosts)},
	{"HostbasedUsesNameFromPacketOnly", anywhere, first, ignored(noHosts)},
	{"GSSAPICleanupCredentials", global, first, ignored(keysOnly)},
	{"GSSAPIStrictAcceptorCheck", global, first, ignored(keysOnly)},
	{"GSSAPIStoreCredentialsOnRekey", global, first, ignored(keysOnly)},
	{"GSSAPIKexAlgorithms", global, first, ignored(keysOnly)},
	{"KerberosOrLocalPasswd", global, first, ignored(keysOnly)},
	{"KerberosTicketCleanup", global, first, ignored(keysOnly)},
	{"KerberosGetAFSToken", global, first, ignored(keysOnly)},
	{"PAMServiceName", anywhere, first, ignored(noSystem)},
	{"SshdSessionPath", global, first, ignored("this server is one program")},
	{"SshdAuthPath", global, first, ignored("this server is one program")},
	{"Protocol", global, first, ignored(obsolete)},
	{"UsePrivilegeSeparation", global, first, ignored(obsolete)},
	{"UseLogin", global, first, ignored(obsolete)},
	{"ServerKeyBits", global, first, ignored(obsolete)},
	{"KeyRegenerationInterval", global, first, ignored(obsolete)},
	{"RSAAuthentication", anywhere, first, ignored(obsolete)},
	{"RhostsRSAAuthentication", anywhere, first, ignored(obsolete)},
	{"RhostsAuthentication", global, first, ignored(obsolete)},
	{"CheckMail", global, first, ignored(obsolete)},
	{"VerifyReverseMapping", global, first, ignored(obsolete)},
	{"ReverseMappingCheck", global, first, ignored(obsolete)},
	{"AuthorizedKeysFile2", anywhere, first, ignored(obsolete)},
}

// byName finds a keyword by any of its names in lower case.
var byName = sync.OnceValue(func() map[string]*keyword {
	index := map[string]*keyword{}
	for i := range keywords {
		for name := range strings.FieldsSeq(keywords[i].names) {
			index[strings.ToLower(name)] = &keywords[i]
		}
	}
	return index
})

// lookUp returns nil for a keyword that sshd does not know.
func lookUp(name string) *keyword { return byName()[strings.ToLower(name)] }
