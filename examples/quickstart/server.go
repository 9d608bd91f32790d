package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"time"

	sqle "github.com/dolthub/go-mysql-server"
	"github.com/dolthub/go-mysql-server/memory"
	gms "github.com/dolthub/go-mysql-server/server"
	gmssql "github.com/dolthub/go-mysql-server/sql"
	"github.com/go-sql-driver/mysql"
	"github.com/sirupsen/logrus"
)

type server struct {
	dsn      string
	addr     string
	version  string
	embedded bool
}

func (s server) String() string {
	description := fmt.Sprintf("%s (VERSION() %s)", s.addr, s.version)
	if s.embedded {
		return "embedded go-mysql-server at " + description
	}
	return description
}

// useServer returns the server with that data source name, or with none an embedded one, which runs
// until the program ends.
func useServer(ctx context.Context, dsn string) (server, error) {
	s := server{dsn: dsn, embedded: dsn == ""}
	if s.embedded {
		addr, err := embed()
		if err != nil {
			return s, fmt.Errorf("embedded server: %w", err)
		}
		s.dsn = "root@tcp(" + addr + ")/"
	}
	config, err := mysql.ParseDSN(s.dsn)
	if err != nil {
		return s, err
	}
	s.addr = config.Addr

	db, err := sql.Open("mysql", s.dsn)
	if err != nil {
		return s, err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&s.version); err != nil {
		return s, fmt.Errorf("server at %s: %w", s.addr, err)
	}
	return s, nil
}

func embed() (addr string, err error) {
	logrus.SetOutput(io.Discard) // go-mysql-server logs each connection to standard error
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr = l.Addr().String()
	provider := memory.NewDBProvider(memory.NewDatabase("quickstart"))
	s, err := gms.NewServer(gms.Config{Protocol: "tcp", Address: addr, Listener: l},
		sqle.NewDefault(provider), gmssql.NewContext, memory.NewSessionBuilder(provider), nil)
	if err != nil {
		return "", err
	}
	go s.Start()
	return addr, nil
}
