package sshdconfig

import (
	"fmt"
	"net"
	"strconv"
)

// values are everything that directives set.
type values struct {
	Settings
	Server
	ports  []int
	listen []listenAddress
	notes  []string // warnings about the directive just obeyed

	written    map[string]string // by keyword in lower case, what a dump shows as it was written
	subsystems []string          // the names in order

	penalties map[string]bool // the offences that have had their first value
}

type listenAddress struct{ host, port string } // port "" for each of the ports

func (v *values) note(format string, args ...any) {
	v.notes = append(v.notes, fmt.Sprintf(format, args...))
}

// listenAddresses joins ListenAddress and Port: an address without a port of
// its own is listened on at every port.
func (v *values) listenAddresses() []string {
	addresses := v.listen
	if len(addresses) == 0 {
		addresses = []listenAddress{{}}
	}
	var list []string
	for _, a := range addresses {
		if a.port != "" {
			list = append(list, net.JoinHostPort(a.host, a.port))
			continue
		}
		for _, port := range v.ports {
			list = append(list, net.JoinHostPort(a.host, strconv.Itoa(port)))
		}
	}
	return list
}
