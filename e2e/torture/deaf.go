package main

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// dialDeaf connects by a socket that can be probed, but not registered for
// events: only the driver can access its descriptor.
func dialDeaf(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if tcp, ok := conn.(*net.TCPConn); ok {
		return deafConn{tcp}, err
	}
	return conn, err
}

type deafConn struct{ *net.TCPConn }

func (c deafConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPConn.SyscallConn()
	return deafRaw{raw}, err
}

type deafRaw struct{ syscall.RawConn }

func (deafRaw) Control(func(uintptr)) error { return errors.ErrUnsupported }
