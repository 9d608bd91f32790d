package server

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// A transaction on the session of a lock ends with it: the server rolls it back
// when the session ends, and frees the lock after that. The code under the lock
// uses the connection through database/sql, while releases and proofs go on:
//
//   - Statements take turns by the mutex of the driver's connection, which Raw
//     also takes. A proof that waits for it has no clock running: a statement
//     that runs is its own proof.
//   - While rows are open nothing is sent: see rowsOpen.
//   - The transaction is under the session's context. So it ends if the session
//     does, and no context of a caller's reaches COMMIT or ROLLBACK.

// Slice is the longest wait of a statement for a lock.
const Slice = 30 * time.Second

// txTime bounds COMMIT and ROLLBACK. A rollback takes as long as what it
// undoes.
const txTime = Slice + AnswerTime

// endTime is txTime, or less if the server closes an idle session sooner. No
// proof is sent while COMMIT runs. So COMMIT must end within the lease, and the
// holder be told before another session gets the lock. The server has received
// a statement within the last interval, which is a third of that limit at most.
func (c *Conn) endTime() time.Duration {
	if c.greeting == nil || c.greeting.idleLimit == 0 {
		return txTime
	}
	return min(txTime, c.greeting.idleLimit/2)
}

// Begin runs START TRANSACTION. The caller has the turn. On an error there is
// no transaction.
func (c *Conn) Begin(opts *sql.TxOptions) (*sql.Tx, error) {
	var tx *sql.Tx
	err := c.unoccupied()
	if err == nil {
		err = c.readyForCode()
	}
	if err == nil {
		err = c.bounded(c.patience(), func() error {
			return orConnDone(new(bool), func() (err error) {
				tx, err = c.conn.BeginTx(c.ctx, opts)
				return err
			})
		})
		if IsAnswer(err) && opts != nil && opts.Isolation != sql.LevelDefault {
			c.forgetIsolation()
		}
	}
	if err == nil {
		c.tx.Store(tx)
		if err = c.mark(); IsAnswer(err) {
			c.rollback(tx)
		}
	}
	switch {
	case err == nil:
		return tx, nil
	case errors.Is(err, ErrOccupied), IsAnswer(err):
		return nil, fault.Because(fault.ErrUnavailable, "START TRANSACTION failed", err)
	}
	return nil, c.MarkBroken(err)
}

// forgetIsolation undoes SET TRANSACTION ISOLATION LEVEL, which is for the next
// transaction, where START TRANSACTION was refused: the next one would be the
// code's of another caller.
func (c *Conn) forgetIsolation() {
	if c.settings == nil {
		if c.hasCode {
			c.spoil("an isolation level is pending")
		}
		return
	}
	level := strings.ReplaceAll(c.settings.isolation.String, "-", " ")
	if err := c.exec(c.patience(), "SET SESSION TRANSACTION ISOLATION LEVEL "+level); err != nil {
		c.spoil("an isolation level is pending: " + err.Error())
	}
}

// unoccupied waits until the owner of a connection that was given to New runs
// no statement on it, so that no clock runs in that time. It returns an error
// if rows of the owner's are open.
func (c *Conn) unoccupied() error {
	if !c.lent {
		return nil
	}
	return c.raw(func(conn any) error {
		if c.stateOf(conn) == Occupied {
			return ErrOccupied
		}
		return nil
	})
}

// Commit runs COMMIT. The caller has the turn. It returns
//   - nil if the server has committed,
//   - sql.ErrTxDone if the code under the lock had ended the transaction,
//   - an error that matches fault.ErrTxEnded if anything else had ended it,
//   - ErrCutOff, or an error that matches fault.ErrLost, if COMMIT was not
//     sent,
//   - an error that matches fault.ErrCommitUnknown if there was no answer,
//   - otherwise the server's refusal. Then nothing is committed.
func (c *Conn) Commit() error {
	tx := c.tx.Load()
	if err := c.alive(); err != nil {
		return err
	}
	if isDone(tx) && c.ctx.Err() == nil {
		c.afterCodesEnd()
		return sql.ErrTxDone
	}
	if err := c.stillOpen(); err != nil {
		return c.notCommitted(tx, err)
	}
	err := c.bounded(c.endTime(), tx.Commit)
	switch {
	case err == nil:
		c.endTx()
		return nil
	case errors.Is(err, sql.ErrTxDone) && c.ctx.Err() == nil:
		c.afterCodesEnd()
		return err
	case errors.Is(err, sql.ErrTxDone): // database/sql has rolled back, since the session ended before COMMIT was sent
		return c.lostBeforeCommit(err)
	case declined(err):
		// Both servers have rolled back then, as far as was measured. Nothing rests
		// on that.
		c.rollbackByText()
		c.endTx()
		return err
	}
	_ = c.MarkBroken(err)
	return fault.Because(fault.ErrCommitUnknown, "", err)
}

// notCommitted ends a transaction for which COMMIT is not sent, because of err.
func (c *Conn) notCommitted(tx *sql.Tx, err error) error {
	switch {
	case errors.Is(err, fault.ErrTxEnded), IsAnswer(err), errors.Is(err, ErrOccupied):
		c.rollback(tx)
		if errors.Is(err, fault.ErrTxEnded) {
			c.leftTables()
		}
		return err
	case errors.Is(err, ErrCutOff):
		_ = c.MarkBroken(err)
		return err
	}
	return c.lostBeforeCommit(err)
}

// lostBeforeCommit is the error for a session that is broken by cause before
// COMMIT was sent.
func (c *Conn) lostBeforeCommit(cause error) error {
	_ = c.MarkBroken(cause)
	return fault.Because(fault.ErrLost, "lock lost before COMMIT", cause)
}

// afterCodesEnd is for a transaction on which the code under the lock has
// called Commit or Rollback. Where the server may have refused that, a ROLLBACK
// follows: what is still open would be committed by the next START TRANSACTION.
// Tables that the code had locked stay locked after either.
func (c *Conn) afterCodesEnd() {
	c.tx.Store(nil)
	if !c.hasCode {
		return
	}
	if state, _ := c.lookAtTx(); state != txOver {
		c.rollbackByText()
	}
	c.unlockTables()
}

// rollbackByText is for when database/sql has ended its transaction already.
func (c *Conn) rollbackByText() {
	if err := c.exec(c.endTime(), "ROLLBACK"); err != nil {
		_ = c.MarkBroken(fmt.Errorf("ROLLBACK failed: %w", err))
	}
}

// leftTables is for a transaction that has ended under its code: LOCK TABLES
// does that, and nothing shows whether it was that.
func (c *Conn) leftTables() {
	switch {
	case c.broken != nil:
	case !c.lent:
		c.spoil("its transaction ended before COMMIT")
	default:
		c.unlockTables()
	}
}

func (c *Conn) unlockTables() {
	if c.broken != nil {
		return
	}
	if err := c.exec(c.patience(), "UNLOCK TABLES"); err != nil {
		_ = c.MarkBroken(err)
	}
}

// alive returns an error if it is known, or a look shows, that nothing can be
// sent. If the session ends before COMMIT is sent, nothing is committed.
func (c *Conn) alive() error {
	err := c.broken
	if err == nil {
		var state State
		err = c.raw(func(conn any) error {
			if state = c.stateOf(conn); state == Open && !c.socketOpen() {
				state = Closed
			}
			c.noteTx(conn)
			return nil
		})
		if err == nil {
			err = state.Cause()
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrCutOff):
		_ = c.MarkBroken(err)
		return err
	}
	return c.lostBeforeCommit(err)
}

// Rollback runs ROLLBACK, unless the transaction has ended, because the code
// under the lock has failed by cause. It returns sql.ErrTxDone if that code had
// ended the transaction, and an error that matches fault.ErrTxEnded if anything
// else had: then not all of it is undone. If the statement fails the session is
// broken, and its end rolls back. The caller has the turn.
func (c *Conn) Rollback(cause error) error {
	tx := c.tx.Load()
	if err := c.alive(); err != nil {
		return c.TxEnded()
	}
	if isDone(tx) && c.ctx.Err() == nil {
		c.afterCodesEnd()
		return sql.ErrTxDone
	}
	err := c.flagsOpen()
	if err == nil && !endsTx(cause) {
		err = c.savepointOpen()
	}
	if err != nil {
		if err = c.notCommitted(tx, err); errors.Is(err, fault.ErrTxEnded) {
			return err
		}
		return nil
	}
	c.rollback(tx)
	return nil
}

// endsTx reports whether err says that the server has rolled the transaction
// back. Where it is the code's last word nothing came after it.
func endsTx(err error) bool {
	switch errorNumber(err) {
	case erDeadlock, erLockWaitTimeout, erSnapshot:
		return true
	}
	return false
}

func (c *Conn) rollback(tx *sql.Tx) {
	err := c.bounded(c.endTime(), tx.Rollback)
	switch {
	case err == nil:
		c.endTx()
	case errors.Is(err, sql.ErrTxDone) && c.ctx.Err() == nil:
		c.afterCodesEnd()
	default:
		_ = c.MarkBroken(fmt.Errorf("ROLLBACK failed: %w", err))
	}
}

// endTx is called when the server has answered COMMIT or ROLLBACK. With a
// completion_type of CHAIN that has begun the next transaction.
func (c *Conn) endTx() {
	c.tx.Store(nil)
	if !c.hasCode || c.broken != nil {
		return
	}
	if state, _ := c.lookAtTx(); state == txOpen {
		c.endChain()
	}
}

func (c *Conn) endChain() {
	if err := c.exec(c.endTime(), "ROLLBACK AND NO CHAIN"); err != nil {
		_ = c.MarkBroken(fmt.Errorf("ROLLBACK failed: %w", err))
	}
}

// bounded runs a statement of database/sql's, which has no context that can end
// it. On a session whose socket is known its end ends the statement. Elsewhere
// the statement is left alone: who discards the session waits for its end, in
// Raw.
func (c *Conn) bounded(bound time.Duration, statement func() error) error {
	if c.socket != nil {
		c.toClose.Store(&c.socket)
		defer c.toClose.Store(nil)
	}
	c.silence.Reset(bound)
	var err error
	if c.socket != nil {
		err = statement()
	} else {
		ended := make(chan error, 1)
		go func() { ended <- statement() }()
		select {
		case err = <-ended:
		case <-c.ctx.Done():
			err = ErrSilent
		}
	}
	if !c.silence.Stop() {
		return fmt.Errorf("%w within %v", ErrSilent, bound)
	}
	return err
}
