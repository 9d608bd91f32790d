package servers

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// FreePort returns a TCP port of 127.0.0.1 that nothing listens on. Nothing keeps it free afterwards.
//
// It is one below the ranges from which systems take the ports of outgoing connections: between Kill
// and Restart such a connection, even one to the dead server itself, could take the server's port.
func FreePort() (int, error) {
	const lowest, ports, attempts = 15000, 15000, 100
	var err error
	for range attempts {
		port := lowest + rand.IntN(ports)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port found: %w", err)
}
