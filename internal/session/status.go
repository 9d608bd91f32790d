package session

import (
	"database/sql"
	"reflect"
	"sync"
	"sync/atomic"
)

// What the driver and database/sql have noted about a transaction, without a
// round trip. Nothing that is public says it. Each field is looked up once, and
// what a version does not have counts as not known.

// A txState is what is known of the transaction on a session.
type txState int

const (
	txUnseen txState = iota // nothing reports it
	txOpen                  // as of the last answer that the driver has read
	txOver                  // no transaction is open
)

// The flags that the server sends with every answer but an error.
const (
	flagInTransaction = 1 << 0
	flagAutocommit    = 1 << 1
)

// seenTx returns what the driver's connection has noted of the transaction. Under
// autocommit=0 the flag reports nothing: the next statement begins another
// transaction. It is called in Raw.
func (s *Session) seenTx(conn any) txState {
	s.know(conn)
	d := s.driver
	switch {
	case d == nil || d.status == nil || *d.status&flagAutocommit == 0:
		return txUnseen
	case *d.status&flagInTransaction == 0:
		return txOver
	}
	return txOpen
}

// noteTx keeps what seenTx returns for the time when the connection is closed.
func (s *Session) noteTx(conn any) {
	if s.tx.Load() != nil && !s.savepoint.Load() {
		s.lastTx.Store(int32(s.seenTx(conn)))
	}
}

// noteEnd keeps whether the code under the lock has ended the transaction. It is
// called before the session's context ends, by which database/sql ends it, too;
// after that it does nothing.
func (s *Session) noteEnd() {
	if tx := s.tx.Load(); tx != nil && isDone(tx) && s.ctx.Err() == nil { // in this order: the end of the context is followed by that
		s.endedByCode.Store(true)
	}
}

// txFields are those of a *sql.Tx: closemu is held for reading while rows are
// open or a statement is about to run, done is set when Commit or Rollback has
// been called.
var txFields = sync.OnceValue(func() (fields struct{ closemu, done []int }) {
	tx := reflect.TypeFor[sql.Tx]()
	if f, ok := tx.FieldByName("closemu"); ok && f.Type == reflect.TypeFor[sync.RWMutex]() {
		fields.closemu = f.Index
	}
	if f, ok := tx.FieldByName("done"); ok && f.Type == reflect.TypeFor[atomic.Bool]() {
		fields.done = f.Index
	}
	return fields
})

func txField[T any](tx *sql.Tx, index []int) *T {
	if index == nil {
		return nil
	}
	return (*T)(reflect.ValueOf(tx).Elem().FieldByIndex(index).Addr().UnsafePointer())
}

// isDone reports whether Commit or Rollback has been called on tx. Where that
// cannot be seen it reports false, and the next call on tx finds out.
func isDone(tx *sql.Tx) bool {
	done := txField[atomic.Bool](tx, txFields().done)
	return done != nil && done.Load()
}

// rowsOpen reports whether rows of the transaction are open, or a statement of it
// is about to run. The driver does not know of rows that are read under a context
// that cannot end. Where database/sql no longer has the mutex, rows count as open
// until the transaction has ended, and no proof is sent in that time.
func (s *Session) rowsOpen() bool {
	tx := s.tx.Load()
	if tx == nil {
		return false
	}
	mu := txField[sync.RWMutex](tx, txFields().closemu)
	if mu == nil || !mu.TryLock() {
		return true
	}
	mu.Unlock()
	return false
}
