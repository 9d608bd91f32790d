package session

import (
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"sync"
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

// Begin runs START TRANSACTION. The caller has the turn. On an error there is no
// transaction.
func (s *Session) Begin(opts *sql.TxOptions) (*sql.Tx, error) {
	var tx *sql.Tx
	err := s.unoccupied()
	if err == nil {
		err = s.bounded(s.patience(), func() error {
			return orConnDone(new(bool), func() (err error) {
				tx, err = s.conn.BeginTx(s.ctx, opts)
				return err
			})
		})
	}
	switch {
	case err == nil:
		s.tx.Store(tx)
		return tx, nil
	case errors.Is(err, errOccupied), isAnswer(err):
		return nil, fault.Because(fault.ErrUnavailable, "no transaction could be begun", err)
	}
	return nil, s.markBroken(err)
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

// Commit runs COMMIT. It returns nil if the server has committed, sql.ErrTxDone if there was
// no transaction any more, ErrCutOff or an error that matches fault.ErrCommitUnknown, and
// otherwise the server's refusal; then nothing is committed. The caller has the turn.
func (s *Session) Commit() error {
	tx := s.tx.Load()
	if err := s.alive(); err != nil {
		return err
	}
	err := s.bounded(txTime, tx.Commit)
	switch {
	case err == nil:
		s.endTx()
		return nil
	case errors.Is(err, sql.ErrTxDone) && s.ctx.Err() == nil:
		s.endTx()
		return err
	case errors.Is(err, sql.ErrTxDone): // database/sql has rolled back, since the session ended before COMMIT was sent
		return fault.Because(fault.ErrLost, "lock lost before its transaction was committed", s.markBroken(err))
	case declined(err):
		// Refused, which need not have ended the transaction: a server that has become
		// read-only keeps it open.
		if undone := s.exec(s.patience(), "ROLLBACK"); undone != nil {
			_ = s.markBroken(undone)
		}
		s.endTx()
		return err
	}
	_ = s.markBroken(err)
	return fault.Because(fault.ErrCommitUnknown, "", err)
}

// alive returns an error if it is known, or to be seen, that nothing can be sent: what ends before COMMIT is sent is no doubt.
func (s *Session) alive() error {
	if s.broken != nil {
		return fault.Because(fault.ErrLost, "lock lost before its transaction was committed", s.broken)
	}
	var state connState
	err := s.raw(func(conn any) error {
		if state = s.stateOf(conn); state == open && !socketOpen(conn) {
			state = closed
		}
		return nil
	})
	if err == nil {
		err = state.cause()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrCutOff):
		_ = s.markBroken(err)
		return err
	}
	_ = s.markBroken(err)
	return fault.Because(fault.ErrLost, "lock lost before its transaction was committed", err)
}

// Rollback runs ROLLBACK, unless the transaction has ended. If that fails the session is
// broken, and its end rolls back. The caller has the turn.
func (s *Session) Rollback() {
	tx := s.tx.Load()
	if err := s.alive(); err != nil {
		return
	}
	err := s.bounded(txTime, tx.Rollback)
	if err == nil || errors.Is(err, sql.ErrTxDone) && s.ctx.Err() == nil {
		s.endTx()
		return
	}
	_ = s.markBroken(fmt.Errorf("ROLLBACK failed: %w", err))
}

func (s *Session) endTx() { s.tx.Store(nil) }

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
		return fmt.Errorf("%w (%v)", errSilent, bound)
	}
	return err
}

// rowsOpen reports whether rows of the transaction are open, or a statement of it is about
// to run. Nothing that is public tells: the driver does not know of rows that are read
// under a context that cannot end. database/sql holds a mutex of the transaction for as long;
// where it has that no more, rows count as open until the transaction has ended, and no
// proof is sent meanwhile.
func (s *Session) rowsOpen() bool {
	tx := s.tx.Load()
	if tx == nil {
		return false
	}
	v := reflect.ValueOf(tx).Elem().FieldByName("closemu")
	if !v.IsValid() || v.Type() != reflect.TypeFor[sync.RWMutex]() {
		return true
	}
	mu := reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Interface().(*sync.RWMutex)
	if !mu.TryLock() {
		return true
	}
	mu.Unlock()
	return false
}
