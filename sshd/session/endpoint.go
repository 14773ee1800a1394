package session

import "net/netip"

// Endpoint is an end of a connection as sshd writes it. One that is not on a
// socket, but on pipes, has no address (ssh_remote_ipaddr in OpenSSH's packet.c).
func Endpoint(a netip.AddrPort) (address string, port uint16) {
	if !a.IsValid() {
		return "UNKNOWN", 65535
	}
	return a.Addr().Unmap().String(), a.Port()
}
