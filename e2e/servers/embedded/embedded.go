// Package embedded gives package servers its kind Embedded: go-mysql-server, a MySQL server in Go, in
// this process. Import it for that effect alone.
//
// It serves demonstrations and smoke tests. Its named locks differ from MySQL's in many ways, so a test
// that passes on it proves little.
package embedded

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	"github.com/dolthub/go-mysql-server/server"
	"github.com/dolthub/go-mysql-server/sql"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/sirupsen/logrus"
)

func init() {
	logrus.SetOutput(io.Discard) // go-mysql-server logs each connection to standard error
	servers.RegisterEmbedded(listen)
}

func listen(addr string) (servers.Listening, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	tracked := &listener{Listener: l}
	provider := memory.NewDBProvider(memory.NewDatabase("test"))
	engine := sqle.NewDefault(provider)
	// Its tables are not safe for concurrent use.
	engine.Analyzer.Catalog.InfoSchema = memory.NewDatabase("information_schema")
	s, err := server.NewServer(server.Config{Protocol: "tcp", Address: addr, Listener: tracked},
		engine, sql.NewContext, memory.NewSessionBuilder(provider), nil)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	r := &running{listener: tracked, server: s, engine: engine, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		s.Start()
	}()
	return r, nil
}

type running struct {
	listener *listener
	server   *server.Server
	engine   *sqle.Engine
	done     chan struct{}
}

func (r *running) Close() error {
	err := r.listener.Close()
	<-r.done
	r.server.Close()
	r.listener.closeConns()
	if e := r.engine.Close(); !errors.Is(e, context.Canceled) { // its own background work, cancelled
		err = errors.Join(err, e)
	}
	return err
}

// A listener remembers its connections, which go-mysql-server leaves open when it closes. They are not
// wrapped: the server looks for a *net.TCPConn.
type listener struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

func (l *listener) closeConns() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
}
