package session

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
)

// A transaction on the session of a lock ends with it: the server rolls it back when the
// session ends, and frees the lock after that. The code under the lock uses the connection
// through database/sql, while releases and proofs go on beside it:
//
//   - Statements take turns by the mutex of the driver's connection, which Raw takes too. A
//     proof that waits for it has no clock running: a statement that runs is its own proof.
//   - While rows are open nothing is sent: see rowsOpen.
//   - The transaction is under the session's context. So it ends if the session does, and no
//     context of a caller's reaches COMMIT or ROLLBACK.

// txTime bounds COMMIT and ROLLBACK. A rollback takes as long as what it undoes.
const txTime = slice + answerTime

// endTime is txTime, or less where the server gives an idle session up sooner: no
// proof is sent beside COMMIT, so that this must end within the lease, and the
// holder be told before the lock goes to another. The server has heard of the
// session within the last interval, which is a third of that limit at most.
func (s *Session) endTime() time.Duration {
	if s.server == nil || s.server.idleLimit == 0 {
		return txTime
	}
	return min(txTime, s.server.idleLimit/2)
}

// savepoint shows whether the transaction has ended under its code where nothing
// else does: RELEASE SAVEPOINT is error 1305 after a ROLLBACK, a COMMIT, and what
// implies one. (Measured on MySQL 9.7 and MariaDB 10.5, 10.11 and 11.8.)
const savepoint = "SAVEPOINT namedlock_transaction"

// Begin runs START TRANSACTION. The caller has the turn. On an error there is no
// transaction.
func (s *Session) Begin(opts *sql.TxOptions) (*sql.Tx, error) {
	var tx *sql.Tx
	err := s.unoccupied()
	if err == nil {
		err = s.readyForCode()
	}
	if err == nil {
		err = s.bounded(s.patience(), func() error {
			return orConnDone(new(bool), func() (err error) {
				tx, err = s.conn.BeginTx(s.ctx, opts)
				return err
			})
		})
		if isAnswer(err) && opts != nil && opts.Isolation != sql.LevelDefault {
			s.forgetIsolation()
		}
	}
	if err == nil {
		s.tx.Store(tx)
		if err = s.mark(); isAnswer(err) {
			s.rollback(tx)
		}
	}
	switch {
	case err == nil:
		return tx, nil
	case errors.Is(err, errOccupied), isAnswer(err):
		return nil, fault.Because(fault.ErrUnavailable, "START TRANSACTION failed", err)
	}
	return nil, s.markBroken(err)
}

// forgetIsolation undoes SET TRANSACTION ISOLATION LEVEL, which is for the next
// transaction, where START TRANSACTION was refused: the next one would be somebody
// else's.
func (s *Session) forgetIsolation() {
	if s.settings == nil {
		if s.hasCode {
			s.spoil("an isolation level is pending")
		}
		return
	}
	level := strings.ReplaceAll(s.settings.isolation.String, "-", " ")
	if err := s.exec(s.patience(), "SET SESSION TRANSACTION ISOLATION LEVEL "+level); err != nil {
		s.spoil("an isolation level is pending: " + err.Error())
	}
}

// mark makes sure that it will show if the transaction, which has just begun, ends
// under its code.
func (s *Session) mark() error {
	s.flagged.Store(false)
	s.savepoint.Store(false)
	s.marked.Store(s.hasCode)
	s.lastTx.Store(int32(txUnseen))
	s.endedByCode.Store(false)
	if !s.hasCode {
		return nil
	}
	state, err := s.lookAtTx()
	if err != nil {
		return err
	}
	s.flagged.Store(state == txOpen)
	if state == txOpen && !s.server.hidesDeadlocks() {
		return nil
	}
	s.savepoint.Store(true)
	return s.exec(s.patience(), savepoint)
}

// lookAtTx returns what the driver has noted of the transaction.
func (s *Session) lookAtTx() (state txState, err error) {
	err = s.raw(func(conn any) error {
		state = s.seenTx(conn)
		return nil
	})
	return state, err
}

// stillOpen returns an error unless the transaction is the one that Begin began. An answer
// that was an error reports nothing: where the code's last statement has failed, the flag is
// that of the one before.
func (s *Session) stillOpen() error {
	if err := s.flagsOpen(); err != nil {
		return err
	}
	return s.savepointOpen()
}

// flagsOpen is stillOpen by the flags, where they show it.
func (s *Session) flagsOpen() error {
	if !s.hasCode || !s.flagged.Load() {
		return nil
	}
	state, err := s.lookAtTx()
	if err == nil && state != txOpen {
		err = errTxEnded
	}
	return err
}

// savepointOpen is stillOpen by the savepoint, where there is one.
func (s *Session) savepointOpen() error {
	if !s.hasCode || !s.savepoint.Load() {
		return nil
	}
	return ended(s.exec(s.patience(), "RELEASE "+savepoint))
}

var errTxEnded = fault.Because(fault.ErrTxEnded, "", nil)

// ended is the error for an answer to RELEASE SAVEPOINT.
func ended(err error) error {
	if errorNumber(err) == erNoSuchFunction { // the number is that of a savepoint, too
		return errTxEnded
	}
	return err
}

// unoccupied waits until the owner of a connection that was given to New runs no statement on
// it, so that no clock runs meanwhile, and returns an error if rows of its are open.
func (s *Session) unoccupied() error {
	if !s.lent {
		return nil
	}
	return s.raw(func(conn any) error {
		if s.stateOf(conn) == occupied {
			return errOccupied
		}
		return nil
	})
}

// Commit runs COMMIT. It returns nil if the server has committed, sql.ErrTxDone if the code
// under the lock had ended the transaction, and an error that matches fault.ErrTxEnded if
// anything else had; ErrCutOff or an error that matches fault.ErrLost if COMMIT was not
// sent; one that matches fault.ErrCommitUnknown; and otherwise the server's refusal: then
// nothing is committed. The caller has the turn.
func (s *Session) Commit() error {
	tx := s.tx.Load()
	if err := s.alive(); err != nil {
		return err
	}
	if isDone(tx) && s.ctx.Err() == nil {
		s.afterCodesEnd()
		return sql.ErrTxDone
	}
	if err := s.stillOpen(); err != nil {
		return s.notCommitted(tx, err)
	}
	err := s.bounded(s.endTime(), tx.Commit)
	switch {
	case err == nil:
		s.endTx()
		return nil
	case errors.Is(err, sql.ErrTxDone) && s.ctx.Err() == nil:
		s.afterCodesEnd()
		return err
	case errors.Is(err, sql.ErrTxDone): // database/sql has rolled back, since the session ended before COMMIT was sent
		return s.lostBeforeCommit(err)
	case declined(err):
		// Both servers have rolled back then, as far as was measured. Nothing rests on that.
		s.rollbackByText()
		s.endTx()
		return err
	}
	_ = s.markBroken(err)
	return fault.Because(fault.ErrCommitUnknown, "", err)
}

// notCommitted ends a transaction for which COMMIT is not sent, because of err.
func (s *Session) notCommitted(tx *sql.Tx, err error) error {
	switch {
	case errors.Is(err, fault.ErrTxEnded), isAnswer(err), errors.Is(err, errOccupied):
		s.rollback(tx)
		if errors.Is(err, fault.ErrTxEnded) {
			s.leftTables()
		}
		return err
	case errors.Is(err, ErrCutOff):
		_ = s.markBroken(err)
		return err
	}
	return s.lostBeforeCommit(err)
}

// lostBeforeCommit is the error for a session that is broken by cause before COMMIT was sent.
func (s *Session) lostBeforeCommit(cause error) error {
	_ = s.markBroken(cause)
	return fault.Because(fault.ErrLost, "lock lost before COMMIT", cause)
}

// afterCodesEnd is for a transaction on which the code under the lock has called Commit or
// Rollback. Where the server may have refused that, a ROLLBACK follows: what is still open
// would be committed by the next START TRANSACTION. Tables that the code had locked stay
// locked after either.
func (s *Session) afterCodesEnd() {
	s.tx.Store(nil)
	if !s.hasCode {
		return
	}
	if state, _ := s.lookAtTx(); state != txOver {
		s.rollbackByText()
	}
	s.unlockTables()
}

// rollbackByText is for when database/sql has ended its transaction already.
func (s *Session) rollbackByText() {
	if err := s.exec(s.endTime(), "ROLLBACK"); err != nil {
		_ = s.markBroken(fmt.Errorf("ROLLBACK failed: %w", err))
	}
}

// leftTables is for a transaction that has ended under its code: LOCK TABLES does that, and
// nothing shows whether it was that.
func (s *Session) leftTables() {
	switch {
	case s.broken != nil:
	case !s.lent:
		s.spoil("its transaction ended before COMMIT")
	default:
		s.unlockTables()
	}
}

func (s *Session) unlockTables() {
	if s.broken != nil {
		return
	}
	if err := s.exec(s.patience(), "UNLOCK TABLES"); err != nil {
		_ = s.markBroken(err)
	}
}

// alive returns an error if it is known, or to be seen, that nothing can be sent: what ends before COMMIT is sent is no doubt.
func (s *Session) alive() error {
	err := s.broken
	if err == nil {
		var state connState
		err = s.raw(func(conn any) error {
			if state = s.stateOf(conn); state == open && !s.socketOpen() {
				state = closed
			}
			s.noteTx(conn)
			return nil
		})
		if err == nil {
			err = state.cause()
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrCutOff):
		_ = s.markBroken(err)
		return err
	}
	return s.lostBeforeCommit(err)
}

// Rollback runs ROLLBACK, unless the transaction has ended, because the code under the lock
// has failed by cause. It returns sql.ErrTxDone if that code had ended the transaction, and
// an error that matches fault.ErrTxEnded if anything else had: then not all of it is undone. If the statement fails the session
// is broken, and its end rolls back. The caller has the turn.
func (s *Session) Rollback(cause error) error {
	tx := s.tx.Load()
	if err := s.alive(); err != nil {
		return s.TxEnded()
	}
	if isDone(tx) && s.ctx.Err() == nil {
		s.afterCodesEnd()
		return sql.ErrTxDone
	}
	err := s.flagsOpen()
	if err == nil && !endsTx(cause) {
		err = s.savepointOpen()
	}
	if err != nil {
		if err = s.notCommitted(tx, err); errors.Is(err, fault.ErrTxEnded) {
			return err
		}
		return nil
	}
	s.rollback(tx)
	return nil
}

// endsTx reports whether err says that the server has rolled the transaction back. Where it
// is the code's last word nothing came after it.
func endsTx(err error) bool {
	switch errorNumber(err) {
	case erDeadlock, erLockWaitTimeout, erSnapshot:
		return true
	}
	return false
}

func (s *Session) rollback(tx *sql.Tx) {
	err := s.bounded(s.endTime(), tx.Rollback)
	switch {
	case err == nil:
		s.endTx()
	case errors.Is(err, sql.ErrTxDone) && s.ctx.Err() == nil:
		s.afterCodesEnd()
	default:
		_ = s.markBroken(fmt.Errorf("ROLLBACK failed: %w", err))
	}
}

// endTx is called when the server has answered COMMIT or ROLLBACK. With a completion_type of
// CHAIN that has begun the next transaction.
func (s *Session) endTx() {
	s.tx.Store(nil)
	if !s.hasCode || s.broken != nil {
		return
	}
	if state, _ := s.lookAtTx(); state == txOpen {
		s.endChain()
	}
}

func (s *Session) endChain() {
	if err := s.exec(s.endTime(), "ROLLBACK AND NO CHAIN"); err != nil {
		_ = s.markBroken(fmt.Errorf("ROLLBACK failed: %w", err))
	}
}

// TxEnded returns what became of a transaction whose session has gone, and that was not
// committed by us: sql.ErrTxDone if the code under the lock had called Commit or Rollback,
// an error that matches fault.ErrTxEnded if it had ended under the code, fault.ErrTxUnseen if
// only the savepoint would have shown it, and nil if it was open, as far as could be seen.
// Then the server rolls it back.
func (s *Session) TxEnded() error {
	s.noteEnd() // who discards the session may not have come to that
	if s.endedByCode.Load() {
		return sql.ErrTxDone
	}
	_ = s.raw(func(conn any) error { // unless it is closed: then discard has noted it
		s.noteTx(conn)
		return nil
	})
	switch state := txState(s.lastTx.Load()); {
	case state == txOver:
		return errTxEnded
	case state == txUnseen && s.marked.Load():
		return fault.ErrTxUnseen
	}
	return nil
}

// bounded runs a statement of database/sql's, which has no context that can end it. On a session
// whose socket is known its end ends the statement. Elsewhere the statement is left alone: who
// discards the session waits for its end, in Raw.
func (s *Session) bounded(bound time.Duration, statement func() error) error {
	if s.socket != nil {
		s.toClose.Store(&s.socket)
		defer s.toClose.Store(nil)
	}
	s.silence.Reset(bound)
	var err error
	if s.socket != nil {
		err = statement()
	} else {
		ended := make(chan error, 1)
		go func() { ended <- statement() }()
		select {
		case err = <-ended:
		case <-s.ctx.Done():
			err = errSilent
		}
	}
	if !s.silence.Stop() {
		return fmt.Errorf("%w within %v", errSilent, bound)
	}
	return err
}
