package peek

import (
	"database/sql"
	"sync"
	"sync/atomic"
)

// IsDone reports whether Commit or Rollback has been called on tx. If
// database/sql does not have the field, it reports false, and the next call on
// tx finds out.
func IsDone(tx *sql.Tx) bool {
	done := field[atomic.Bool](tx, "done")
	return done != nil && done.Load()
}

// RowsOpen reports whether rows of tx are open, or a statement of it is about
// to run: a mutex of tx is locked for reading. The driver cannot show rows that
// are read under a context that cannot end. If database/sql does not have the
// mutex, rows count as open until the transaction has ended, and no proof is
// sent in that time.
func RowsOpen(tx *sql.Tx) bool {
	mu := field[sync.RWMutex](tx, "closemu")
	return mu == nil || isLocked(mu)
}

// InUse reports whether a statement, its rows, or a transaction use conn: a
// mutex of conn is locked for reading. Commit and Rollback unlock it when they
// have returned. If database/sql does not have the mutex, InUse reports false.
func InUse(conn *sql.Conn) bool {
	mu := field[sync.RWMutex](conn, "closemu")
	return mu != nil && isLocked(mu)
}

func isLocked(mu *sync.RWMutex) bool {
	if !mu.TryLock() {
		return true
	}
	mu.Unlock()
	return false
}
