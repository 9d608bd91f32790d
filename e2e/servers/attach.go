package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock/internal/lateness"
)

// DSNVariable is the environment variable with the DSN of a running server, for
// Attach. If it is set, no other MySQL or MariaDB is started: Start returns a
// *MissingError.
const DSNVariable = "NAMEDLOCK_DSN"

// attached returns why Start starts no server, or "" if it starts one.
func attached() string {
	if os.Getenv(DSNVariable) != "" {
		return "needs a server of its own, but " + DSNVariable + " names a running server"
	}
	return ""
}

// Attach returns a server that is already running, for example in a container.
// The DSN's user must have all privileges, and the server must have no other
// clients: tests change its global variables and kill sessions. Attach creates
// the database "test". Stop does nothing. Other methods that would stop or
// freeze the server return errors.ErrUnsupported.
func Attach(dsn string) (*Server, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	if _, _, err := net.SplitHostPort(cfg.Addr); cfg.Net != "tcp" || err != nil {
		return nil, fmt.Errorf("attach: the server must be reached by TCP, as user:password@tcp(host:3306)/, not by %s(%s)", cfg.Net, cfg.Addr)
	}
	cfg.DBName = ""
	s := &Server{to: cfg.Clone(), instance: elsewhere{}}
	s.to.DBName = "test"
	if err := s.look(cfg); err != nil {
		return nil, fmt.Errorf("attach to %s: %w", cfg.Addr, err)
	}
	return s, nil
}

// look reads the kind and version of the server, and checks that it lists the
// waiters that tests look at.
func (s *Server) look(cfg *mysql.Config) error {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	ctx, cancel := lateness.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var version, shows string
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return err
	}
	s.kind = MySQL
	if strings.Contains(version, "MariaDB") {
		s.kind = MariaDB
	}
	s.version = productName(s.kind, version)
	if _, err := db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS test"); err != nil {
		return err
	}
	err = db.QueryRowContext(ctx, "SELECT ENABLED FROM performance_schema.setup_instruments WHERE NAME = 'wait/lock/metadata/sql/mdl'").Scan(&shows)
	if errors.Is(err, sql.ErrNoRows) || err == nil && shows != "YES" {
		return fmt.Errorf("%s does not list waiters: start it with --performance-schema=ON "+
			"--performance-schema-instrument=wait/lock/metadata/sql/mdl=ON", s.version)
	}
	return err
}

// elsewhere is the instance of a server that this process did not start.
type elsewhere struct{}

func (elsewhere) kill() error             { return errors.ErrUnsupported }
func (elsewhere) terminate() error        { return errors.ErrUnsupported }
func (elsewhere) pause() error            { return errors.ErrUnsupported }
func (elsewhere) resume() error           { return errors.ErrUnsupported }
func (elsewhere) exited() <-chan struct{} { return nil }
