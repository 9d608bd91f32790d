package servers

import (
	"database/sql"
	"errors"
	"os"
	"testing"
)

// ForTest starts a server that stops when the test ends; a failed test gets the
// server's log. Where the server is missing the test ends as Missing says.
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

// SkipOrFail ends the test for an error of Start: as Missing does for a
// *MissingError and for a *BusyError, failed for any other.
func SkipOrFail(t testing.TB, err error) {
	t.Helper()
	var missing *MissingError
	if errors.As(err, &missing) {
		Missing(t, missing.Error())
	}
	var busy *BusyError
	if errors.As(err, &busy) {
		Missing(t, busy.Error())
	}
	t.Fatal(err)
}

// SkippedFile is the environment variable that names the file to which Missing
// adds a line for each test that it skips. The command cmd/tests reads it: go
// test hides what a skipped test says.
const SkippedFile = "NAMEDLOCK_SKIPPED_FILE"

// Missing ends a test that needs what is not on this machine: skipped, or
// failed if $NAMEDLOCK_REQUIRE_SERVERS is 1. The reason is one line, which says
// how to get it.
func Missing(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("NAMEDLOCK_REQUIRE_SERVERS") == "1" {
		t.Fatal(reason)
	}
	if file := os.Getenv(SkippedFile); file != "" {
		if err := appendLine(file, reason); err != nil {
			t.Error(err)
		}
	}
	t.Skip(reason)
}

func appendLine(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
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
