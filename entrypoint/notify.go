package entrypoint

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// What a service of systemd tells it (sd_notify(3)); Debian's ssh.service waits for it.
const (
	serviceReady    = "READY=1"
	serviceStopping = "STOPPING=1"
)

// serviceReloading needs the time, by which systemd knows an old message.
func serviceReloading() string {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)
}

// notify is for a process that systemd knows: it does not listen to those behind it.
func (c *sshdCommand) notify(state string) {
	if !c.front.stays {
		c.notifyService(state)
	}
}

// notifyService tells systemd about the service that this is, if it is one and
// wants to know. It is no reason not to serve if it cannot.
func (c *sshdCommand) notifyService(state string) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		conn.Close()
	}
	if err != nil {
		c.logs.logger().Error("systemd not notified", "error", err)
	}
}
