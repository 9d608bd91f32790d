// Package locksql has the statements about locks that several packages of tests
// use: those that the library sends, and those of sessions outside the library.
package locksql

import (
	"context"
	"database/sql"
	"fmt"
)

// The library's statements, as they must be sent to the server: see
// docs/STATEMENTS.md.
const (
	SelectGetLock     = "SELECT GET_LOCK(?, ?)"
	SelectReleaseLock = "SELECT RELEASE_LOCK(?)"
)

// Parts of them, by which a test recognizes a statement however it is sent.
const (
	GetLock     = "GET_LOCK("
	ReleaseLock = "RELEASE_LOCK("
	IsUsedLock  = "IS_USED_LOCK("
	Version     = "VERSION()" // of the greeting
)

// A Session runs statements: a *sql.DB, *sql.Conn or *sql.Tx.
type Session interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Holder returns the id of the session that holds the lock, or 0 if none does.
func Holder(ctx context.Context, s Session, name string) (id int64, err error) {
	var found sql.NullInt64
	err = s.QueryRowContext(ctx, "SELECT IS_USED_LOCK(?)", name).Scan(&found)
	return found.Int64, err
}

// Kill ends a session. It returns an error if the session has ended before.
func Kill(ctx context.Context, s Session, id int64) error {
	_, err := s.ExecContext(ctx, fmt.Sprintf("KILL %d", id))
	return err
}

// KillHolder ends the session that holds the lock. It returns an error if there
// is none.
func KillHolder(ctx context.Context, s Session, name string) error {
	id, err := Holder(ctx, s, name)
	if err != nil {
		return err
	}
	return Kill(ctx, s, id)
}
