package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/examples/internal/embedded"
	"github.com/go-sql-driver/mysql"
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
		addr, err := embedded.Start()
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
