package e2e

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock/e2e/internal/targets"
	"github.com/go-namedlock/namedlock/e2e/servers"
)

// on returns the target of this run.
var on = sync.OnceValue(func() targets.Target {
	t, err := targets.On()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return t
})

// startFor is start for one test.
func startFor(t *testing.T, kind servers.Kind, args ...string) *server {
	t.Helper()
	s, err := start(kind, args...)
	if err != nil {
		servers.SkipOrFail(t, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s:\n%s", s.Version(), s.Log())
		}
		if err := s.Stop(); err != nil {
			t.Errorf("stop %s: %v", s.Version(), err)
		}
	})
	return s
}

// showLocks has options for MariaDB. With them it lists the holders and waiters
// of locks, as MySQL does by default.
var showLocks = []string{"--performance-schema=ON", "--performance-schema-instrument=wait/lock/metadata/sql/mdl=ON"}

// start starts a server of the target, and the proxy in front of it.
func start(kind servers.Kind, args ...string) (*server, error) {
	if kind == servers.MariaDB {
		args = append(args, showLocks...)
	}
	backend, err := servers.Start(kind, servers.WithArgs(args...), servers.WithVersion(on().Version))
	if err != nil {
		return nil, err
	}
	return asTarget(backend)
}

// asTarget returns a server of the target, with the proxy in front of it.
func asTarget(backend *servers.Server) (*server, error) {
	s, err := direct(backend)
	if err == nil && on().Proxy != "" {
		if s.proxy, err = servers.StartProxy(on().Proxy, servers.Backend{Addr: backend.Addr()}); err != nil {
			return nil, errors.Join(err, s.Stop())
		}
	}
	return s, err
}

// direct returns a server without a proxy.
func direct(backend *servers.Server) (*server, error) {
	admin, err := openDB(backend.DSN())
	if err != nil {
		return nil, errors.Join(err, backend.Stop())
	}
	// A session ends when it is closed, together with its locks.
	admin.SetMaxIdleConns(-1)
	return &server{Server: backend, admin: admin}, nil
}

// Addr returns the address that Lockers use: that of the proxy, if there is
// one.
func (s *server) Addr() string {
	if s.proxy != nil {
		return s.proxy.Addr()
	}
	return s.Server.Addr()
}

// DSN returns the DSN of the server at Addr.
func (s *server) DSN(params ...string) string { return s.DSNAt(s.Addr(), params...) }

// Restart returns when the server can be reached, also through the proxy. For a
// while MySQL Router avoids a server that it could not reach.
func (s *server) Restart() error {
	if err := s.Server.Restart(); err != nil || s.proxy == nil {
		return err
	}
	db, err := openDB(s.DSN())
	if err != nil {
		return err
	}
	defer db.Close()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if err = db.PingContext(background); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// Stop ends the server, and the proxy in front of it.
func (s *server) Stop() error {
	var err error
	if s.admin != nil {
		err = s.admin.Close()
	}
	if s.proxy != nil {
		err = errors.Join(err, s.proxy.Stop())
	}
	return errors.Join(err, s.Server.Stop())
}
