package sshd

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setQoS marks the connection's packets (sshd_config(5), IPQoS) by what the first
// session on it is: a terminal wants to be quick, a transfer wants throughput.
func (c *connection) setQoS(tty bool) {
	c.marked.Do(func() {
		value := c.granted.IPQoS[1]
		if tty {
			value = c.granted.IPQoS[0]
		}
		socket, ok := c.Conn.(syscall.Conn)
		if !ok || value < 0 || !c.remote.IsValid() {
			return
		}
		level, option := unix.IPPROTO_IP, unix.IP_TOS
		if c.remote.Addr().Is6() {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		}
		if raw, err := socket.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), level, option, value) })
		}
	})
}
