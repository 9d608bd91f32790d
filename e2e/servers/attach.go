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

// DSNVariable is the environment variable that names a server which runs
// already, for Attach. Where it is set no other MySQL and MariaDB is started:
// Start returns a *MissingError.
const DSNVariable = "NAMEDLOCK_DSN"

// attached says why Start starts no server, "" if it does.
func attached() string {
	if os.Getenv(DSNVariable) != "" {
		return "needs a server of its own, and " + DSNVariable + " names one that runs already"
	}
	return ""
}

// Attach returns a server that runs already, such as one in a container or a
// managed one. The DSN's user must have all privileges there, and the server
// nothing else to do: tests change its global variables, and kill sessions. It
// gets a database "test". Methods that would stop or freeze it return
// errors.ErrUnsupported, but Stop, which leaves it alone.
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

// look finds out what the server is, and whether it shows what tests look at.
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
		return fmt.Errorf("%s does not show who waits for a lock: start it with --performance-schema=ON "+
			"--performance-schema-instrument=wait/lock/metadata/sql/mdl=ON", s.version)
	}
	return err
}

// elsewhere is the instance of a server that this process has not started.
type elsewhere struct{}

func (elsewhere) kill() error             { return errors.ErrUnsupported }
func (elsewhere) terminate() error        { return errors.ErrUnsupported }
func (elsewhere) pause() error            { return errors.ErrUnsupported }
func (elsewhere) resume() error           { return errors.ErrUnsupported }
func (elsewhere) exited() <-chan struct{} { return nil }
