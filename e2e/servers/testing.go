package servers

import (
	"database/sql"
	"errors"
	"os"
	"testing"
)

// ForTest starts a server that stops when the test ends; a failed test gets the server's log. Where the
// server is missing the test is skipped, or fails if $NAMEDLOCK_REQUIRE_SERVERS is 1.
func ForTest(t testing.TB, kind Kind, opts ...Option) *Server {
	t.Helper()
	s, err := Start(kind, opts...)
	if err != nil {
		SkipOrFail(t, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			if log := s.Log(); log != "" {
				t.Logf("log of %s:\n%s", s.Version(), log)
			}
		}
		if err := s.Stop(); err != nil {
			t.Errorf("stop %s: %v", s.Version(), err)
		}
	})
	return s
}

// SkipOrFail ends the test for an error of Start: skipped for a *MissingError, unless
// $NAMEDLOCK_REQUIRE_SERVERS is 1; failed for any other.
func SkipOrFail(t testing.TB, err error) {
	t.Helper()
	var missing *MissingError
	if errors.As(err, &missing) && os.Getenv("NAMEDLOCK_REQUIRE_SERVERS") != "1" {
		t.Skip(missing)
	}
	t.Fatal(err)
}

// Open returns a pool for DSN(params...) that is closed when the test ends.
func (s *Server) Open(t testing.TB, params ...string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", s.DSN(params...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
