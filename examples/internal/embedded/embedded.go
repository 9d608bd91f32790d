// Package embedded is a MySQL-like server in the process, for examples that need nothing but Go.
package embedded

import (
	"io"
	"net"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	gms "github.com/dolthub/go-mysql-server/server"
	gmssql "github.com/dolthub/go-mysql-server/sql"
	"github.com/sirupsen/logrus"
)

// Database is the only database of the server.
const Database = "examples"

// Start starts a server, which runs until the program ends. Anybody can be root.
func Start() (addr string, err error) {
	logrus.SetOutput(io.Discard) // go-mysql-server logs each connection to standard error
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr = l.Addr().String()
	provider := memory.NewDBProvider(memory.NewDatabase(Database))
	engine := sqle.NewDefault(provider)
	// Its tables are not safe for concurrent use.
	engine.Analyzer.Catalog.InfoSchema = memory.NewDatabase("information_schema")
	s, err := gms.NewServer(gms.Config{Protocol: "tcp", Address: addr, Listener: l},
		engine, gmssql.NewContext, memory.NewSessionBuilder(provider), nil)
	if err != nil {
		return "", err
	}
	go s.Start()
	return addr, nil
}
