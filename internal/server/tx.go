package server

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/clock"
	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/peek"
)

// A transaction on the session of a lock ends with that session: the server
// rolls it back first, and frees the lock after that. So nothing that the
// transaction wrote can be committed after its lock was lost. The code under
// the lock uses the connection through database/sql. Releases and proofs use
// the same connection:
//
//   - Statements take turns by the mutex of the driver's connection, which Raw
//     locks. The clock of a proof does not run while it waits for that mutex: a
//     statement that runs is its own proof.
//   - While rows are open, nothing is sent: see peek.RowsOpen.
//   - The transaction runs under the session's context. So it ends with the
//     session, and no caller's context reaches COMMIT or ROLLBACK.

// txTime bounds COMMIT and ROLLBACK. A rollback takes as long as the changes
// that it undoes.
const txTime = Slice + AnswerTime

// endTime returns the bound of COMMIT and ROLLBACK: txTime, or half of the idle
// limit if that is less. No proof can be sent during COMMIT. So COMMIT must end
// within the lease, and the holder must be told before the server gives the
// lock away. The server has received a statement of the session within the last
// interval, which is at most a third of the idle limit.
func (c *Conn) endTime() time.Duration {
	if c.IdleLimit() == 0 {
		return txTime
	}
	return min(txTime, c.IdleLimit()/2)
}

// Begin runs START TRANSACTION under the session's context. On an error there
// is no transaction. The caller has the turn.
func (c *Conn) Begin(opts *sql.TxOptions) (*sql.Tx, error) {
	tx, err := c.begin(opts)
	switch {
	case err == nil:
		return tx, nil
	case errors.Is(err, fault.ErrInTransaction):
		return nil, err
	case errors.Is(err, ErrOccupied), IsAnswer(err):
		return nil, fault.Because(fault.ErrUnavailable, "START TRANSACTION failed", err)
	}
	return nil, c.MarkBroken(err)
}

func (c *Conn) begin(opts *sql.TxOptions) (*sql.Tx, error) {
	if err := c.unoccupied(); err != nil {
		return nil, err
	}
	if err := c.readyForCode(); err != nil {
		return nil, err
	}
	if err := c.unoccupied(); err != nil { // again: the owner may begin a transaction at any moment
		return nil, err
	}
	var tx *sql.Tx
	err := c.bounded(c.patience(), func() (err error) { // it may return before this function
		defer func() { err = c.connDone(recover(), err) }()
		tx, err = c.conn.BeginTx(c.ctx, opts)
		return err
	})
	if IsAnswer(err) && opts != nil && opts.Isolation != sql.LevelDefault {
		c.forgetIsolation()
	}
	if err != nil {
		return nil, err
	}
	c.tx.Store(tx)
	if err = c.mark(); IsAnswer(err) || errors.Is(err, ErrOccupied) {
		_ = c.rollback(tx)
	}
	return tx, err
}

// forgetIsolation undoes a SET TRANSACTION ISOLATION LEVEL when START
// TRANSACTION was refused: the level would apply to the session's next
// transaction, which can be another caller's.
func (c *Conn) forgetIsolation() {
	if c.settings == nil {
		if c.hasCode {
			c.spoil("an isolation level is pending")
		}
		return
	}
	level := strings.ReplaceAll(c.settings[atIsolation].String, "-", " ")
	if err := c.exec(c.patience(), "SET SESSION TRANSACTION ISOLATION LEVEL "+level); err != nil {
		c.spoil("an isolation level is pending: " + err.Error())
	}
}

// unoccupied waits until the owner of a connection given to New runs no
// statement on it. So the bound of START TRANSACTION begins after that. It
// returns an error if rows of the owner's are open, or a transaction.
func (c *Conn) unoccupied() error {
	if !c.lent {
		return nil
	}
	return c.raw(func(conn driver.Conn) error {
		switch {
		case c.stateOf(conn) == Occupied:
			return ErrOccupied
		case c.seenTx() == txOpen:
			return fault.Because(fault.ErrInTransaction, "a transaction is open on the connection given to New, and START TRANSACTION would commit it", nil)
		}
		return nil
	})
}

// Commit runs COMMIT. The caller has the turn. Commit returns nil if the server
// has committed, and otherwise an error:
//
//   - sql.ErrTxDone: the code under the lock had called Commit or Rollback.
//   - fault.ErrTxEnded: something else had ended the transaction, and what the
//     code ran after that was committed by itself.
//   - ErrCutOff or fault.ErrLost: the session ended before COMMIT was sent, so
//     nothing is committed.
//   - fault.ErrCommitUnknown: no answer to COMMIT arrived, or it was
//     interrupted (KILL QUERY, a time limit).
//   - any other error: the server refused COMMIT, or COMMIT was not sent
//     because rows are open or the savepoint could not be checked. The
//     transaction is rolled back.
func (c *Conn) Commit() error {
	tx := c.tx.Load()
	if err := c.alive(); err != nil {
		return err
	}
	if err := c.stillOpen(tx, nil); err != nil {
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
	case errors.Is(err, sql.ErrTxDone): // the session's context ended before COMMIT was sent
		return c.lostBeforeCommit(err)
	case declined(err):
		// Both servers have rolled back in every case that was measured. The
		// ROLLBACK makes that certain for all others. Nothing uses tx any more.
		c.tx.Store(nil)
		c.must(c.endTime(), "ROLLBACK")
		c.endTx()
		if errorNumber(err) == erXA {
			return errTxEnded // the code has begun another after it: XA START
		}
		return err
	case c.cutOffBefore(err):
		return c.lostBeforeCommit(ErrCutOff)
	}
	_ = c.MarkBroken(err)
	return fault.Because(fault.ErrCommitUnknown, "", err)
}

// cutOffBefore reports whether COMMIT or ROLLBACK, which failed by err, was not
// sent: a context had ended during a statement of the code before. Both run
// under no context that the driver watches. After ErrSilent a statement may
// still be running, and Probe would wait for it.
func (c *Conn) cutOffBefore(err error) bool {
	return !errors.Is(err, ErrSilent) && c.Probe() == CutOff
}

// notCommitted ends a transaction for which COMMIT is not sent, because of err,
// and returns the error for Commit.
func (c *Conn) notCommitted(tx *sql.Tx, err error) error {
	switch {
	case err == sql.ErrTxDone:
		c.afterCodesEnd()
		return err
	case !errors.Is(err, fault.ErrTxEnded) && !IsAnswer(err) && !errors.Is(err, ErrOccupied):
		return c.lostBeforeCommit(err)
	}
	if ended := c.rollback(tx); ended != nil {
		return ended
	}
	if errors.Is(err, fault.ErrTxEnded) {
		// LOCK TABLES may have ended it, and nothing shows whether it did.
		if c.lent {
			c.must(c.patience(), "UNLOCK TABLES")
		} else {
			c.spoil("its transaction ended before COMMIT")
		}
	}
	return err
}

// lostBeforeCommit breaks the session by cause, and returns the error for a
// session that has ended before COMMIT was sent.
func (c *Conn) lostBeforeCommit(cause error) error {
	_ = c.MarkBroken(cause)
	if errors.Is(cause, ErrCutOff) {
		return cause
	}
	return fault.Because(fault.ErrLost, "lock lost before COMMIT", cause)
}

// afterCodesEnd is for a transaction on which the code under the lock has
// called Commit or Rollback. If the server may have refused that, a ROLLBACK
// follows: the next START TRANSACTION would commit everything that is still
// open. Tables that the code had locked stay locked after both, so UNLOCK
// TABLES follows.
//
// A goroutine that the code left behind may still be in that call. Its COMMIT
// or ROLLBACK would end the next transaction on the session, so afterCodesEnd
// waits for it.
func (c *Conn) afterCodesEnd() {
	if !c.hasCode {
		c.tx.Store(nil)
		return
	}
	const pause = time.Millisecond
	for deadline := time.Now().Add(c.patience()); peek.InUse(c.conn); time.Sleep(pause) {
		if time.Now().After(deadline) {
			_ = c.MarkBroken(errors.New("tx.Commit or tx.Rollback, called by the code under the lock, has not returned"))
			return
		}
	}
	// The watch is about to judge how long the session has been idle. Rows of
	// the code may have prevented the proofs for longer than the idle limit.
	c.answered.Store(int64(clock.Now()))
	c.tx.Store(nil)
	if state, _ := c.lookAtTx(); state != txOver {
		c.must(c.endTime(), "ROLLBACK")
	}
	c.must(c.patience(), "UNLOCK TABLES")
}

// must runs text, unless the session is broken. If that fails, the session is
// broken.
func (c *Conn) must(bound time.Duration, text string) {
	if c.broken != nil {
		return
	}
	if err := c.exec(bound, text); err != nil {
		_ = c.MarkBroken(fmt.Errorf("%s failed: %w", text, err))
	}
}

// alive returns an error if the session is broken, or if a probe finds it
// closed. It prevents an unknown outcome: a session that is lost before COMMIT
// is sent has committed nothing.
func (c *Conn) alive() error {
	err := c.broken
	if err == nil {
		err = c.Probe().Cause()
	}
	if err == nil {
		return nil
	}
	return c.lostBeforeCommit(err)
}

// Rollback runs ROLLBACK, because the code under the lock has failed by cause.
// The caller has the turn. Rollback returns nil if the transaction is rolled
// back, and otherwise an error:
//
//   - sql.ErrTxDone: the code had called Commit or Rollback.
//   - fault.ErrTxEnded: something else had ended the transaction, so not all of
//     it is undone.
//
// If the statement fails, the session is broken, and its end rolls back. For a
// session that was lost before ROLLBACK was sent, see TxEnded.
func (c *Conn) Rollback(cause error) error {
	tx := c.tx.Load()
	if err := c.alive(); err != nil {
		return c.TxEnded()
	}
	if err := c.stillOpen(tx, cause); err != nil {
		err = c.notCommitted(tx, err)
		switch {
		case err == sql.ErrTxDone, errors.Is(err, fault.ErrTxEnded):
			return err
		case errors.Is(err, fault.ErrLost), errors.Is(err, ErrCutOff):
			return c.TxEnded() // lost after alive
		}
		return nil
	}
	return c.rollback(tx)
}

// rollback runs ROLLBACK. It returns an error if the transaction had ended
// before. A goroutine that the code left behind has called Commit or Rollback,
// or the code has begun an XA transaction after the end.
func (c *Conn) rollback(tx *sql.Tx) error {
	err := c.bounded(c.endTime(), tx.Rollback)
	switch {
	case err == nil:
		c.endTx()
	case errors.Is(err, sql.ErrTxDone) && c.ctx.Err() != nil: // which may not be the reason
		_ = c.MarkBroken(fmt.Errorf("ROLLBACK failed: %w", err))
		return c.TxEnded()
	case errors.Is(err, sql.ErrTxDone):
		c.afterCodesEnd()
		return err
	default:
		if c.cutOffBefore(err) {
			err = ErrCutOff
		}
		_ = c.MarkBroken(fmt.Errorf("ROLLBACK failed: %w", err))
		if errorNumber(err) == erXA {
			return errTxEnded
		}
	}
	return nil
}

// endTx is called when the server has answered COMMIT or ROLLBACK. With
// completion_type=CHAIN that answer has begun the next transaction, which endTx
// ends.
func (c *Conn) endTx() {
	c.tx.Store(nil)
	if !c.hasCode {
		return
	}
	if state, _ := c.lookAtTx(); state == txOpen {
		c.must(c.endTime(), "ROLLBACK AND NO CHAIN")
	}
}

// bounded runs a statement of database/sql's within bound. Such a statement has
// no context that can end it. If the socket is known, closing it ends the
// statement. Otherwise bounded returns and leaves the statement running.
// Discard waits for its end, in Raw.
func (c *Conn) bounded(bound time.Duration, statement func() error) error {
	breakable := c.driver != nil && c.driver.Socket != nil
	if breakable {
		c.toClose.Store(true)
		defer c.toClose.Store(false)
	}
	begun := clock.Now()
	c.silence.Reset(bound)
	var err error
	if breakable {
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
	return c.ended(err, begun, bound)
}
