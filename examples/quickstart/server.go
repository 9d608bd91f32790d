package main

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"time"

	"github.com/go-namedlock/namedlock/internal/memserver"
	"github.com/go-sql-driver/mysql"
)

type server struct {
	dsn      string
	addr     string
	version  string
	inMemory bool
}

func (s server) String() string {
	if s.inMemory {
		return "in memory, at " + s.addr
	}
	return fmt.Sprintf("%s (VERSION() %s)", s.addr, s.version)
}

// useServer returns the server with that data source name. Without a name it
// starts one in memory, which runs until the program ends.
func useServer(ctx context.Context, dsn string) (server, error) {
	s := server{dsn: dsn, inMemory: dsn == ""}
	if s.inMemory {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return s, err
		}
		go memserver.New().Serve(listener)
		s.dsn = "root@tcp(" + listener.Addr().String() + ")/"
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
