package server

import (
	"database/sql"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// What the driver and database/sql have noted about a transaction, without a
// round trip: see peek.go.

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

// seenTx returns what the driver's connection has noted of the transaction.
// Under autocommit=0 the flag reports nothing: the next statement begins
// another transaction. It is called in Raw.
func (c *Conn) seenTx(conn any) txState {
	c.know(conn)
	d := c.driver
	switch {
	case d == nil || d.status == nil || *d.status&flagAutocommit == 0:
		return txUnseen
	case *d.status&flagInTransaction == 0:
		return txOver
	}
	return txOpen
}

// noteTx keeps what seenTx returns for the time when the connection is closed.
func (c *Conn) noteTx(conn any) {
	if c.tx.Load() != nil && c.flagged.Load() {
		c.lastTx.Store(int32(c.seenTx(conn)))
	}
}

// noteEnd keeps whether the code under the lock has ended the transaction. It
// is called before the session's context ends, by which database/sql also ends
// it; after that it does nothing.
func (c *Conn) noteEnd() {
	if tx := c.tx.Load(); tx != nil && isDone(tx) && c.ctx.Err() == nil { // in this order: the end of the context is followed by that
		c.endedByCode.Store(true)
	}
}

// savepoint shows whether the transaction has ended under its code where
// nothing else does: RELEASE SAVEPOINT is error 1305 after a ROLLBACK, a
// COMMIT, and what implies one. (Measured on MySQL 9.7 and MariaDB 10.5, 10.11
// and 11.8.)
const savepoint = "SAVEPOINT namedlock_transaction"

// mark makes sure that it will show if the transaction, which has just begun,
// ends under its code.
func (c *Conn) mark() error {
	c.flagged.Store(false)
	c.savepoint.Store(false)
	c.marked.Store(c.hasCode)
	c.lastTx.Store(int32(txUnseen))
	c.endedByCode.Store(false)
	if !c.hasCode {
		return nil
	}
	state, err := c.lookAtTx()
	if err != nil {
		return err
	}
	c.flagged.Store(state == txOpen)
	if state == txOpen && !c.greeting.hidesDeadlocks() {
		return nil
	}
	c.savepoint.Store(true)
	return c.exec(c.patience(), savepoint)
}

// lookAtTx returns what the driver has noted of the transaction.
func (c *Conn) lookAtTx() (state txState, err error) {
	err = c.raw(func(conn any) error {
		state = c.seenTx(conn)
		return nil
	})
	return state, err
}

// stillOpen returns an error unless the transaction is the one that Begin
// began. An answer that was an error reports nothing: where the code's last
// statement has failed, the flag is that of the one before.
func (c *Conn) stillOpen() error {
	if err := c.flagsOpen(); err != nil {
		return err
	}
	return c.savepointOpen()
}

// flagsOpen is stillOpen by the flags, where they show it.
func (c *Conn) flagsOpen() error {
	if !c.hasCode || !c.flagged.Load() {
		return nil
	}
	state, err := c.lookAtTx()
	if err == nil && state != txOpen {
		err = errTxEnded
	}
	return err
}

// savepointOpen is stillOpen by the savepoint, where there is one.
func (c *Conn) savepointOpen() error {
	if !c.hasCode || !c.savepoint.Load() {
		return nil
	}
	return ended(c.exec(c.patience(), "RELEASE "+savepoint))
}

var errTxEnded = fault.Because(fault.ErrTxEnded, "", nil)

// ended is the error for an answer to RELEASE SAVEPOINT.
func ended(err error) error {
	if errorNumber(err) == erNoSuchFunction { // the number is that of a savepoint, too
		return errTxEnded
	}
	return err
}

// TxEnded returns what became of a transaction whose session has gone, and that
// we have not committed. It returns
//   - sql.ErrTxDone if the code under the lock had called Commit or Rollback,
//   - an error that matches fault.ErrTxEnded if it had ended under the code,
//   - fault.ErrTxUnseen if only the savepoint would have shown its end,
//   - nil if it was open, as far as could be seen. Then the server rolls it
//     back.
func (c *Conn) TxEnded() error {
	c.noteEnd() // who discards the session may not have come to that
	if c.endedByCode.Load() {
		return sql.ErrTxDone
	}
	_ = c.raw(func(conn any) error { // unless it is closed: then discard has noted it
		c.noteTx(conn)
		return nil
	})
	switch state := txState(c.lastTx.Load()); {
	case state == txOver:
		return errTxEnded
	case state == txUnseen && c.marked.Load():
		return fault.ErrTxUnseen
	}
	return nil
}
