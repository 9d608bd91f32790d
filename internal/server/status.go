package server

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync/atomic"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/peek"
)

// This file finds out whether a transaction is still open. The driver and
// database/sql have noted its state, which costs no round trip: see package
// peek. A savepoint shows it if they have not.

// A transaction is what is known about the transaction that the code under a
// lock has on a connection. Any goroutine may read it, and BreakOff writes it
// from any goroutine. After the end of the transaction all but tx stays, for
// TxEnded.
type transaction struct {
	tx          atomic.Pointer[sql.Tx] // nil: none
	shownBy     atomic.Int32           // byFlags and bySavepoint, see mark
	lastTx      atomic.Int32           // a txState, noted by stateOf
	endedByCode atomic.Bool            // noted by noteEnd: the code called Commit or Rollback
}

// What shows that a transaction has ended under its code. 0: nothing does,
// because the code cannot reach the session.
const (
	byFlags     = 1 << iota // the flags that the driver has noted
	bySavepoint             // a savepoint, since the flags do not show it, or not in all cases
)

// A txState is the known state of the transaction on a session.
type txState int

const (
	txUnseen txState = iota // nothing reports it
	txOpen                  // as of the last answer that the driver has read
	txOver                  // no transaction is open
)

// seenTx returns the state of the transaction according to the driver's status
// flags. Call it in raw.
func (c *Conn) seenTx() txState {
	switch open, known := c.driver.InTx(); {
	case !known:
		return txUnseen
	case !open:
		return txOver
	}
	return txOpen
}

// noteEnd keeps whether the code under the lock has ended the transaction. It
// is called before the session's context ends. After that it does nothing,
// because database/sql also ends the transaction with that context.
func (c *Conn) noteEnd() {
	if tx := c.tx.Load(); tx != nil && c.doneByCode(tx) {
		c.endedByCode.Store(true)
	}
}

// savepoint shows whether the transaction has ended under its code, if nothing
// else does. RELEASE SAVEPOINT is error 1305 after a ROLLBACK, a COMMIT, and
// each statement that implies one. (Measured on MySQL 9.7 and MariaDB 10.5,
// 10.11 and 11.8.)
const savepoint = "SAVEPOINT namedlock_transaction"

// mark makes sure that it can be detected if the new transaction ends under its
// code. The status flags show it without a statement. If they cannot, mark sets
// a savepoint.
func (c *Conn) mark() error {
	c.shownBy.Store(0)
	c.lastTx.Store(int32(txUnseen))
	c.endedByCode.Store(false)
	if !c.hasCode {
		return nil
	}
	state, err := c.lookAtTx()
	switch {
	case err != nil:
		return err
	case state != txOpen:
		c.shownBy.Store(bySavepoint)
	case c.greeting.hidesDeadlocks():
		c.shownBy.Store(byFlags | bySavepoint)
	default:
		c.shownBy.Store(byFlags)
		return nil
	}
	return c.exec(c.patience(), savepoint)
}

// lookAtTx returns the state of the transaction that the driver has noted.
func (c *Conn) lookAtTx() (state txState, err error) {
	err = c.raw(func(driver.Conn) error {
		state = c.seenTx()
		return nil
	})
	return state, err
}

// doneByCode reports whether the code under the lock has called Commit or
// Rollback, also if that call has not returned. If the session's context has
// ended, it returns false: database/sql also ends tx then.
func (c *Conn) doneByCode(tx *sql.Tx) bool {
	done := peek.IsDone(tx) // first: the end of the context makes it true later
	return done && c.ctx.Err() == nil
}

// stillOpen returns an error unless tx is still the transaction that Begin
// began. cause is the error of the code, if it has failed.
//
// An error packet has no flags: after a failed statement of the code, the flag
// is that of the statement before.
func (c *Conn) stillOpen(tx *sql.Tx, cause error) (err error) {
	if c.doneByCode(tx) {
		return sql.ErrTxDone
	}
	if c.shownBy.Load()&byFlags != 0 {
		var state txState
		if state, err = c.lookAtTx(); err == nil && state != txOpen {
			err = errTxEnded
		}
	}
	if err != nil || c.shownBy.Load()&bySavepoint == 0 || endsTx(cause) {
		return err
	}
	err = c.exec(c.patience(), "RELEASE "+savepoint)
	if errorNumber(err) == erNoSuchFunction { // also the number for a savepoint that does not exist
		return errTxEnded
	}
	return err
}

// endsTx reports whether err says that the server has rolled the transaction
// back. If such an error is the code's last answer, no statement can have
// followed outside the transaction.
func endsTx(err error) bool {
	switch errorNumber(err) {
	case erDeadlock, erLockWaitTimeout, erSnapshot:
		return true
	}
	return false
}

var errTxEnded = fault.Because(fault.ErrTxEnded, "", nil)

// TxEnded returns how a transaction ended that was not committed by Commit, and
// whose session is gone. Any goroutine may call it. It returns:
//
//   - nil: it was open, as far as could be detected, so the server rolls it
//     back.
//   - sql.ErrTxDone: the code under the lock had called Commit or Rollback.
//   - fault.ErrTxEnded: it had ended under its code in another way.
//   - fault.ErrTxUnseen: only the savepoint would have shown that, or the owner
//     of a connection given to New has closed it.
func (c *Conn) TxEnded() error {
	c.noteEnd() // Discard may not have called it yet
	if c.endedByCode.Load() {
		return sql.ErrTxDone
	}
	err := c.raw(func(conn driver.Conn) error { // if it is closed, closeConn has noted it
		c.stateOf(conn)
		return nil
	})
	if errors.Is(err, ErrReturned) { // closeConn cannot look either, and the last look is old
		c.lastTx.Store(int32(txUnseen))
	}
	switch state := txState(c.lastTx.Load()); {
	case state == txOver:
		return errTxEnded
	case state == txUnseen && c.shownBy.Load() != 0:
		return fault.ErrTxUnseen
	}
	return nil
}
