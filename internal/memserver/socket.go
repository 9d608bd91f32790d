package memserver

import (
	"io"
	"net"
	"syscall"
)

// A socket is the client's end. The driver's check of the socket detects that
// the server has closed the session, as with a real server.
type socket struct {
	net.Conn
	session *session
}

func (s socket) Close() error {
	s.session.server.mu.Lock()
	closing := s.session.server.closing
	s.session.left = true
	s.session.server.mu.Unlock()
	if closing != nil {
		closing()
	}
	return s.Conn.Close()
}

func (s socket) SyscallConn() (syscall.RawConn, error) { return rawSocket{s.session}, nil }

// rawSocket is asked whether there is anything to read.
type rawSocket struct{ session *session }

func (r rawSocket) Control(func(uintptr)) error { return nil }

func (r rawSocket) Write(func(uintptr) bool) error { return nil }

func (r rawSocket) Read(func(uintptr) bool) error {
	r.session.server.mu.Lock()
	defer r.session.server.mu.Unlock()
	if r.session.dead {
		return io.EOF
	}
	return nil
}
