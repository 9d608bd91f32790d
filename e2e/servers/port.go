package servers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// FreePort returns a TCP port of 127.0.0.1 on which no process listens. It does
// not reserve the port.
//
// The port is below the ranges from which systems take the ports of outgoing
// connections. Otherwise such a connection, even one to the dead server itself,
// could take the server's port between Kill and Restart.
func FreePort() (int, error) {
	const lowest, ports, attempts = 15000, 15000, 100
	var err error
	for range attempts {
		port := lowest + rand.IntN(ports)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, CloseListener(l)
		}
	}
	return 0, fmt.Errorf("no free port found: %w", err)
}

// CloseListener closes l and frees its port.
//
// Close alone may leave the port in use for some milliseconds: a process that
// is being started has a copy of each descriptor until its program runs. A
// shutdown ends listening for all copies of the socket.
func CloseListener(l net.Listener) error {
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err == nil {
		err = raw.Control(shutdown)
	}
	return errors.Join(err, l.Close())
}
