package sshdconfig

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// keyword is what a directive may begin with. To support another directive, add
// a field to Settings or Server and a line to one of the tables.
type keyword struct {
	names string // as sshd_config(5) spells it, then its other names
	scope scope
	kind  kind
	set   setter // nil for the kind structure
	note  string // for obeyed ones how far, for the others why not
}

func (k *keyword) name() string {
	name, _, _ := strings.Cut(k.names, " ")
	return name
}

// key is the name as a dump has it.
func (k *keyword) key() string { return strings.ToLower(k.name()) }

// scope says where a keyword may stand.
type scope int

const (
	anywhere scope = iota
	global         // not within a Match block
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

var (
	rootLogin = map[string]string{
		"yes": "yes", "no": "no", "prohibit-password": "prohibit-password", "without-password": "prohibit-password",
		"forced-commands-only": "forced-commands-only",
	}
	logLevels = map[string]string{
		"silent": "QUIET", "quiet": "QUIET", "fatal": "FATAL", "error": "ERROR", "info": "INFO", "verbose": "VERBOSE",
		"debug": "DEBUG1", "debug1": "DEBUG1", "debug2": "DEBUG2", "debug3": "DEBUG3",
	}
	facilities = map[string]string{
		"daemon": "DAEMON", "user": "USER", "auth": "AUTH", "authpriv": "AUTHPRIV", "local0": "LOCAL0", "local1": "LOCAL1",
		"local2": "LOCAL2", "local3": "LOCAL3", "local4": "LOCAL4", "local5": "LOCAL5", "local6": "LOCAL6", "local7": "LOCAL7",
	}
	hashes          = map[string]string{"md5": "md5", "sha1": "sha1", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512"}
	addressFamilies = map[string]string{"any": "any", "inet": "inet", "inet6": "inet6"}
	directions      = map[string]string{"yes": "yes", "all": "yes", "no": "no", "local": "local", "remote": "remote"}
	gateways        = map[string]string{"yes": "yes", "no": "no", "clientspecified": "clientspecified"}
	compressions    = map[string]string{"yes": "yes", "delayed": "yes", "no": "no"}
	ignoreRhosts    = map[string]string{"yes": "yes", "no": "no", "shosts-only": "shosts-only"}
)

const (
	keysOnly   = "only public keys are offered"
	isObsolete = "obsolete in OpenSSH too"
	noX11      = "X11 is not forwarded"
	noHosts    = "host-based authentication is not offered"
	noSystem   = "this server links no system libraries"
	oneProgram = "this server is one program"
)

// structural keywords are obeyed while a file is read.
var structural = []keyword{
	{"Match", anywhere, structure, nil, ""},
	{"Include", anywhere, structure, nil, ""},
}

// obeyed keywords mean here what they mean to sshd.
var obeyed = []keyword{
	// The server.
	{"Port", global, appending, addPort, ""},
	{"ListenAddress", global, appending, addListenAddress, "without rdomain"},
	{"AddressFamily", global, first, choice(addressFamilies, func(v *values) *string { return &v.AddressFamily }), ""},
	{"HostKey HostDsaKey", global, appending, addFile(func(v *values) *[]string { return &v.HostKeys }), ""},
	{"HostCertificate", global, appending, addFile(func(v *values) *[]string { return &v.HostCertificates }), ""},
	{"LoginGraceTime", global, first, duration(func(v *values) *time.Duration { return &v.LoginGraceTime }), ""},
	{"MaxStartups", global, first, setMaxStartups, ""},
	{"PerSourceMaxStartups", global, first, setPerSourceMaxStartups, ""},
	{"PerSourceNetBlockSize", global, first, setNetBlockSize, ""},
	{"PerSourcePenalties", global, appending, setPenalties, "off unless asked for: behind address translation all clients may look like one"},
	{"PerSourcePenaltyExemptList", global, first, setExempt, ""},
	{"LogLevel", anywhere, first, choiceOf("unsupported log level '%s'", logLevels, func(v *values) *string { return &v.LogLevel }), ""},
	{"SyslogFacility", global, first, choiceOf("unsupported log facility '%s'", facilities, func(v *values) *string { return &v.SyslogFacility }), ""},
	{"PidFile", global, first, file(func(v *values) *string { return &v.PidFile }), ""},
	{"VersionAddendum", global, first, setVersionAddendum, ""},
	{"FingerprintHash", global, first, choiceOf("Invalid FingerprintHash algorithm %q", hashes, func(v *values) *string { return &v.FingerprintHash }), "md5, and SHA-256 for all others"},
	{"RekeyLimit", anywhere, first, setRekeyLimit, "bytes only"},
	{"TCPKeepAlive KeepAlive", global, first, onOff(func(v *values) *bool { return &v.TCPKeepAlive }), ""},
	{"IPQoS", anywhere, first, setIPQoS, ""},
	{"UseDNS", global, first, onOff(func(v *values) *bool { return &v.UseDNS }), ""},
	{"Ciphers", global, first, algorithmList(ciphers, "SSH2 cipher spec", func(v *values) *[]string { return &v.Ciphers }), ""},
	{"MACs", global, first, algorithmList(macs, "SSH2 mac spec", func(v *values) *[]string { return &v.MACs }), ""},
	{"KexAlgorithms", global, first, algorithmList(keyExchanges, "SSH2 KexAlgorithms", func(v *values) *[]string { return &v.KexAlgorithms }), ""},
	{"HostKeyAlgorithms", global, first, algorithmList(hostKeyTypes, "key types", func(v *values) *[]string { return &v.HostKeyAlgorithms }), ""},
	{"PubkeyAcceptedAlgorithms PubkeyAcceptedKeyTypes", anywhere, first, algorithmList(userKeyTypes, "key types", func(v *values) *[]string { return &v.PubkeyAcceptedAlgorithms }), ""},
	{"CASignatureAlgorithms", anywhere, first, algorithmList(signatureTypes, "key types", func(v *values) *[]string { return &v.CASignatureAlgorithms }), ""},

	// Authentication.
	{"PermitRootLogin", anywhere, first, choice(rootLogin, func(v *values) *string { return &v.PermitRootLogin }), ""},
	{"PubkeyAuthentication DSAAuthentication", anywhere, first, onOff(func(v *values) *bool { return &v.PubkeyAuthentication }), ""},
	{"PubkeyAuthOptions", anywhere, first, setPubkeyAuthOptions, "touch-required; verify-required is refused"},
	{"AuthorizedKeysFile", anywhere, wholeLine, setAuthorizedKeysFile, ""},
	{"AuthorizedKeysCommand", anywhere, first, command(func(v *values) *string { return &v.AuthorizedKeysCommand }), ""},
	{"AuthorizedKeysCommandUser", anywhere, first, name(func(v *values) *string { return &v.AuthorizedKeysCommandUser }), ""},
	{"AuthorizedPrincipalsFile", anywhere, first, homeFile(func(v *values) *string { return &v.AuthorizedPrincipalsFile }), ""},
	{"AuthorizedPrincipalsCommand", anywhere, first, command(func(v *values) *string { return &v.AuthorizedPrincipalsCommand }), ""},
	{"AuthorizedPrincipalsCommandUser", anywhere, first, name(func(v *values) *string { return &v.AuthorizedPrincipalsCommandUser }), ""},
	{"TrustedUserCAKeys", anywhere, first, file(func(v *values) *string { return &v.TrustedUserCAKeys }), ""},
	{"RevokedKeys", anywhere, wholeLine, setRevokedKeys, "lists of public keys; a binary revocation list (KRL) is refused"},
	{"StrictModes", global, first, onOff(func(v *values) *bool { return &v.StrictModes }), ""},
	{"MaxAuthTries", anywhere, first, count(func(v *values) *int { return &v.MaxAuthTries }), ""},
	{"RequiredRSASize", anywhere, first, count(func(v *values) *int { return &v.RequiredRSASize }), ""},
	{"AllowUsers", anywhere, appending, list(checkUser, func(v *values) *[]string { return &v.AllowUsers }), ""},
	{"DenyUsers", anywhere, appending, list(checkUser, func(v *values) *[]string { return &v.DenyUsers }), ""},
	{"AllowGroups", anywhere, appending, list(checkName, func(v *values) *[]string { return &v.AllowGroups }), ""},
	{"DenyGroups", anywhere, appending, list(checkName, func(v *values) *[]string { return &v.DenyGroups }), ""},
	{"AuthenticationMethods", anywhere, wholeLine, setAuthenticationMethods, "any, publickey, or publickey several times for as many keys; methods that are not offered are refused"},
	{"RefuseConnection", anywhere, first, onOff(func(v *values) *bool { return &v.RefuseConnection }), ""},
	{"ExposeAuthInfo", anywhere, first, onOff(func(v *values) *bool { return &v.ExposeAuthInfo }), ""},

	// Sessions.
	{"ChrootDirectory", anywhere, first, name(func(v *values) *string { return &v.ChrootDirectory }), ""},
	{"ForceCommand", anywhere, first, raw(func(v *values) *string { return &v.ForceCommand }), ""},
	{"Subsystem", anywhere, keyed, addSubsystem, ""},
	{"PermitTTY", anywhere, first, onOff(func(v *values) *bool { return &v.PermitTTY }), ""},
	{"PermitUserRC", anywhere, first, onOff(func(v *values) *bool { return &v.PermitUserRC }), ""},
	{"AcceptEnv", anywhere, appending, list(checkEnvPattern, func(v *values) *[]string { return &v.AcceptEnv }), ""},
	{"SetEnv", anywhere, wholeLine, setEnv, "what a job adds to the environment is never lost to it"},
	{"PermitUserEnvironment", global, first, setPermitUserEnvironment, ""},
	{"MaxSessions", anywhere, first, count(func(v *values) *int { return &v.MaxSessions }), ""},
	{"Banner", anywhere, first, file(func(v *values) *string { return &v.Banner }), ""},
	{"PrintMotd", global, first, onOff(func(v *values) *bool { return &v.PrintMotd }), ""},
	{"ClientAliveInterval", anywhere, first, duration(func(v *values) *time.Duration { return &v.ClientAliveInterval }), ""},
	{"ClientAliveCountMax", anywhere, first, count(func(v *values) *int { return &v.ClientAliveCountMax }), ""},
	{"ChannelTimeout", anywhere, wholeLine, setChannelTimeout, ""},
	{"UnusedConnectionTimeout", anywhere, first, durationOrNone(func(v *values) *time.Duration { return &v.UnusedConnectionTimeout }), ""},

	// Forwarding.
	{"AllowTcpForwarding", anywhere, first, choice(directions, func(v *values) *string { return &v.AllowTCPForwarding }), ""},
	{"AllowStreamLocalForwarding", anywhere, first, choice(directions, func(v *values) *string { return &v.AllowStreamLocalForwarding }), ""},
	{"AllowAgentForwarding", anywhere, first, onOff(func(v *values) *bool { return &v.AllowAgentForwarding }), ""},
	{"DisableForwarding", anywhere, first, onOff(func(v *values) *bool { return &v.DisableForwarding }), ""},
	{"GatewayPorts", anywhere, first, choice(gateways, func(v *values) *string { return &v.GatewayPorts }), ""},
	{"PermitOpen", anywhere, wholeLine, permit(asWritten, func(v *values) *[]string { return &v.PermitOpen }), ""},
	{"PermitListen", anywhere, wholeLine, permit(atAnyHost, func(v *values) *[]string { return &v.PermitListen }), ""},
	{"StreamLocalBindMask", anywhere, first, single(parseMask, func(v *values) *int { return &v.StreamLocalBindMask }), ""},
	{"StreamLocalBindUnlink", anywhere, first, onOff(func(v *values) *bool { return &v.StreamLocalBindUnlink }), ""},
}

// offOnlys are accepted when off and refused when on.
var offOnlys = []keyword{
	{"PasswordAuthentication", anywhere, first, offOnly("no"), keysOnly},
	{"KbdInteractiveAuthentication ChallengeResponseAuthentication SkeyAuthentication", anywhere, first, offOnly("no"), keysOnly},
	{"PermitEmptyPasswords", anywhere, first, offOnly("no"), keysOnly},
	{"HostbasedAuthentication", anywhere, first, offOnly("no"), keysOnly},
	{"GSSAPIAuthentication", anywhere, first, offOnly("no"), keysOnly},
	{"GSSAPIKeyExchange", global, first, offOnly("no"), keysOnly},
	{"KerberosAuthentication", anywhere, first, offOnly("no"), keysOnly},
	{"UsePAM", global, first, offOnly("no"), noSystem},
	{"X11Forwarding", anywhere, first, offOnly("no"), noX11},
	{"PermitTunnel", anywhere, first, offOnly("no"), "this server makes no tunnel devices"},
	{"RDomain", anywhere, first, offOnly("none"), "Linux has no routing domains"},
	{"HostKeyAgent", global, first, offOnly("none"), "host keys are read from files"},
	{"SecurityKeyProvider", global, first, offOnly("internal"), noSystem},
}

// inert keywords are accepted and change nothing.
var inert = []keyword{
	{"Compression", global, first, ignored(oneOf(compressions)), "data is never compressed"},
	{"LogVerbose", anywhere, wholeLine, ignoredPlaces, "it names places in OpenSSH's sources"},
	{"PrintLastLog", global, first, ignored(yesNo), "no login records are kept"},
	{"X11DisplayOffset", anywhere, first, ignored(number), noX11},
	{"X11UseLocalhost", anywhere, first, ignored(yesNo), noX11},
	{"XAuthLocation", global, first, ignored(anyText), noX11},
	{"ModuliFile", global, first, ignored(absolute), "the group-exchange primes are built in"},
	{"IgnoreRhosts", anywhere, first, ignored(oneOf(ignoreRhosts)), noHosts},
	{"IgnoreUserKnownHosts", global, first, ignored(yesNo), noHosts},
	{"HostbasedAcceptedAlgorithms HostbasedAcceptedKeyTypes", anywhere, first, ignored(keyTypeList), noHosts},
	{"HostbasedUsesNameFromPacketOnly", anywhere, first, ignored(yesNo), noHosts},
	{"GSSAPICleanupCredentials", global, first, ignored(yesNo), keysOnly},
	{"GSSAPIStrictAcceptorCheck", global, first, ignored(yesNo), keysOnly},
	{"GSSAPIStoreCredentialsOnRekey", global, first, ignored(yesNo), keysOnly},
	{"GSSAPIKexAlgorithms", global, first, ignored(anyText), keysOnly},
	{"KerberosOrLocalPasswd", global, first, ignored(yesNo), keysOnly},
	{"KerberosTicketCleanup", global, first, ignored(yesNo), keysOnly},
	{"KerberosGetAFSToken", global, first, obsolete, keysOnly},
	{"PAMServiceName", anywhere, first, ignored(anyText), noSystem},
	{"SshdSessionPath", global, first, ignored(anyText), oneProgram},
	{"SshdAuthPath", global, first, ignored(anyText), oneProgram},
	{"Protocol", global, first, obsolete, isObsolete},
	{"UsePrivilegeSeparation", global, first, obsolete, isObsolete},
	{"UseLogin", global, first, obsolete, isObsolete},
	{"ServerKeyBits", global, first, obsolete, isObsolete},
	{"KeyRegenerationInterval", global, first, obsolete, isObsolete},
	{"RSAAuthentication", anywhere, first, obsolete, isObsolete},
	{"RhostsRSAAuthentication", anywhere, first, obsolete, isObsolete},
	{"RhostsAuthentication", global, first, obsolete, isObsolete},
	{"CheckMail", global, first, obsolete, isObsolete},
	{"VerifyReverseMapping", global, first, obsolete, isObsolete},
	{"ReverseMappingCheck", global, first, obsolete, isObsolete},
	{"AuthorizedKeysFile2", anywhere, first, obsolete, isObsolete},
}

// keywords are all of them.
var keywords = slices.Concat(structural, obeyed, offOnlys, inert)

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
