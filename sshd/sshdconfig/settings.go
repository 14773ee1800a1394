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

	// Sessions.
	ChrootDirectory       string            // "" for none; with %h and %u still in it
	ForceCommand          string            // "" for none
	Subsystems            map[string]string // name → command; internal-sftp is the server's own
	PermitTTY             bool
	AcceptEnv             []string // patterns
	SetEnv                []string // NAME=value, in order
	PermitUserEnvironment string   // list of patterns of names, "*" for yes and "" for no
	MaxSessions           int
	Banner                string // file, "" for none
	PrintMotd             bool

	// Liveness.
	ClientAliveInterval time.Duration
	ClientAliveCountMax int
}

// Server is what a configuration says about the server as a whole.
type Server struct {
	Listen                                                                    []string // host:port, host "" for any address
	AddressFamily                                                             string   // any, inet or inet6: where to listen
	HostKeys                                                                  []string // files; empty means the default ones
	LoginGraceTime                                                            time.Duration
	MaxStartups                                                               MaxStartups
	LogLevel                                                                  string // QUIET … DEBUG3, upper case
	PidFile                                                                   string // "" for none
	VersionAddendum                                                           string
	RekeyLimit                                                                uint64 // bytes, 0 for the library's default
	TCPKeepAlive                                                              bool
	Ciphers, MACs, KexAlgorithms, HostKeyAlgorithms, PubkeyAcceptedAlgorithms []string // nil for the defaults
}

// MaxStartups bounds connections that have not authenticated: from Begin on,
// Rate per cent of new ones are dropped, rising to all of them at Full.
type MaxStartups struct{ Begin, Rate, Full int }

// Connection is what Match blocks are decided on.
type Connection struct {
	User, Host, Address, LocalAddress string
	Groups                            []string
	LocalPort                         int
	InvalidUser                       bool
}
