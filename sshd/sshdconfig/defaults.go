package sshdconfig

import "time"

// defaults are sshd's own, as sshd_config(5) gives them.
func defaults() *values {
	return &values{
		Settings: Settings{
			PermitRootLogin:      "prohibit-password",
			PubkeyAuthentication: true,
			AuthorizedKeysFiles:  []string{".ssh/authorized_keys", ".ssh/authorized_keys2"},
			StrictModes:          true,
			MaxAuthTries:         6,
			RequiredRSASize:      1024,
			Subsystems:           map[string]string{},
			PermitTTY:            true,
			MaxSessions:          10,
			PrintMotd:            true,
			ClientAliveCountMax:  3,

			LogLevel:                   "INFO",
			AllowTCPForwarding:         "yes",
			AllowStreamLocalForwarding: "yes",
			AllowAgentForwarding:       true,
			GatewayPorts:               "no",
			StreamLocalBindMask:        0o177,
			PermitUserRC:               true,
			IPQoS:                      [2]int{0x10, 0x08}, // lowdelay, throughput
		},
		written:   map[string]string{},
		penalties: map[string]bool{},
		Server: Server{
			AddressFamily:   "any",
			LoginGraceTime:  2 * time.Minute,
			MaxStartups:     MaxStartups{Begin: 10, Rate: 30, Full: 100},
			FingerprintHash: "sha256",
			PerSource:       PerSource{Prefix4: 32, Prefix6: 128, Penalties: defaultPenalties},
			SyslogFacility:  "AUTH",
			PidFile:         "/run/sshd.pid",
			TCPKeepAlive:    true,
		},
	}
}
