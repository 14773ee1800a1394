package sshdconfig

import "time"

// Settings are the values in force for one connection, defaults filled in.
// Durations of zero mean "no limit". sshd_config(5) defines each directive.
type Settings struct {
	// Authentication.
	PermitRootLogin                                string // yes, no, prohibit-password, forced-commands-only
	PubkeyAuthentication                           bool
	AuthorizedKeysFiles                            []string // with %h and %u still in them; relative to the home directory
	StrictModes                                    bool
	MaxAuthTries                                   int
	RequiredRSASize                                int // bits
	AllowUsers, DenyUsers, AllowGroups, DenyGroups []string

	TrustedUserCAKeys               string   // file, "" for none
	CASignatureAlgorithms           []string // nil for DefaultAlgorithms
	AuthorizedPrincipalsFile        string   // "" for none; with tokens still in it
	AuthorizedPrincipalsCommand     string   // "" for none; with tokens still in it
	AuthorizedPrincipalsCommandUser string
	AuthorizedKeysCommand           string // "" for none; with tokens still in it
	AuthorizedKeysCommandUser       string
	RevokedKeys                     []string // files
	PublicKeys                      int      // AuthenticationMethods: how many keys have to sign, 0 for one
	TouchRequired                   bool     // PubkeyAuthOptions: no-touch-required of a key does not count
	RefuseConnection                bool
	ExposeAuthInfo                  bool
	PubkeyAcceptedAlgorithms        []string // of keys and of certificates; nil for DefaultAlgorithms
	LogLevel                        string   // QUIET … DEBUG3, upper case

	// Forwarding.
	AllowTCPForwarding         string // yes, no, local or remote
	AllowStreamLocalForwarding string // likewise
	AllowAgentForwarding       bool
	DisableForwarding          bool     // set: the others have been set to no
	GatewayPorts               string   // no, yes or clientspecified
	PermitOpen, PermitListen   []string // HOST:PORT, either may be *; nil for any, empty for none
	StreamLocalBindMask        int      // umask(2) of the sockets of forwardings
	StreamLocalBindUnlink      bool

	// Sessions.
	PermitUserRC            bool
	ChannelTimeouts         []ChannelTimeout // the first whose pattern matches the type counts
	UnusedConnectionTimeout time.Duration
	IPQoS                   [2]int            // type-of-service octet of terminals, and of everything else; -1 leaves it alone
	RekeyLimit              uint64            // bytes, 0 for the library's default
	ChrootDirectory         string            // "" for none; with %h and %u still in it
	ForceCommand            string            // "" for none
	Subsystems              map[string]string // name → command; internal-sftp is the server's own
	PermitTTY               bool
	AcceptEnv               []string // patterns
	SetEnv                  []string // NAME=value, in order
	PermitUserEnvironment   string   // list of patterns of names, "*" for yes and "" for no
	MaxSessions             int
	Banner                  string // file, "" for none
	PrintMotd               bool

	// Liveness.
	ClientAliveInterval time.Duration
	ClientAliveCountMax int
}

// Server is what a configuration says about the server as a whole.
type Server struct {
	Listen                                          []string // host:port, host "" for any address
	AddressFamily                                   string   // any, inet or inet6: where to listen
	HostKeys                                        []string // files; empty means the default ones
	LoginGraceTime                                  time.Duration
	MaxStartups                                     MaxStartups
	HostCertificates                                []string // files
	FingerprintHash                                 string   // md5, sha256 or another that sshd knows
	UseDNS                                          bool
	PerSource                                       PerSource
	PidFile                                         string // "" for none
	SyslogFacility                                  string // AUTH, LOCAL0, …: of what the program sends to syslog
	VersionAddendum                                 string
	TCPKeepAlive                                    bool
	Ciphers, MACs, KexAlgorithms, HostKeyAlgorithms []string // nil for DefaultAlgorithms
}

// MaxStartups bounds connections that have not authenticated: from Begin on,
// Rate per cent of new ones are dropped, rising to all of them at Full.
type MaxStartups struct{ Begin, Rate, Full int }

// ChannelTimeout closes channels whose type matches Pattern when nothing has
// passed for Idle, 0 for never.
type ChannelTimeout struct {
	Pattern string
	Idle    time.Duration
}

// PerSource bounds what one network may do before it authenticates.
type PerSource struct {
	MaxStartups      int // connections that have not authenticated, 0 for no bound
	Prefix4, Prefix6 int // bits of an address that count as its network
	Penalties        Penalties
	Exempt           string // list of addresses and networks without penalties, "" for none
}

// Penalties say for how long a network is turned away after an offence. They
// add up; a network is turned away once the sum has reached Min, and never for
// longer than Max from now.
type Penalties struct {
	Enabled bool // off unless PerSourcePenalties asks for them

	Crash            time.Duration // the server itself failed while it dealt with the client
	AuthFail         time.Duration // the client was refused at least once and left
	NoAuth           time.Duration // it left without a try
	GraceExceeded    time.Duration // it had not authenticated within LoginGraceTime
	RefuseConnection time.Duration // RefuseConnection was in force
	InvalidUser      time.Duration // it tried a user who does not exist

	Min, Max                 time.Duration
	MaxSources4, MaxSources6 int      // networks that are kept in mind, of each kind of address
	Overflow4, Overflow6     Overflow // what becomes of new ones beyond that
}

// Overflow says what happens once the table of penalties is full.
type Overflow string

// An Overflow is one of these.
const (
	Permissive Overflow = "permissive" // forget the penalty that ends first
	DenyAll    Overflow = "deny-all"   // turn every network away, except for exempt ones
)

// Connection is what Match blocks are decided on.
type Connection struct {
	User, Host, Address, LocalAddress, RDomain string // "" for unknown, which matches nothing
	Groups                                     []string
	LocalPort                                  int
	InvalidUser                                bool
}
