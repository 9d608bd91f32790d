package servers

import (
	"database/sql"
	"errors"
	"os"
	"testing"
)

// ForTest starts a server that stops when the test ends. A failed test logs the
// server's log. If the server is missing, the test ends like with Missing.
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

// SkipOrFail ends the test after an error of Start. For a *MissingError or a
// *BusyError it calls Missing. For any other error the test fails.
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

// SkippedFile is the environment variable with the name of a file. Missing
// appends a line to that file for each test that it skips. The command
// cmd/tests reads the file, since go test hides the output of a skipped test.
const SkippedFile = "NAMEDLOCK_SKIPPED_FILE"

// Missing ends a test for which a program is missing on this machine. The test
// is skipped, or fails if $NAMEDLOCK_REQUIRE_SERVERS is 1. The reason is one
// line that contains the command to get the program.
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
