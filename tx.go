package namedlock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/queue"
)

// WithLockTx runs GET_LOCK, START TRANSACTION, fn, COMMIT, RELEASE_LOCK, in this order, on one
// session. So what fn writes is committed under the lock, or never: when the session
// ends, the server rolls back first and frees the lock after that (measured on MySQL 9.7 and
// MariaDB 10.11). A process that has lost the lock cannot commit, however late it
// notices; that takes no token and no clock.
//
// tx is the session's transaction, and all that fn writes under the lock's protection goes through
// it. Its snapshot is taken under the lock. WithLockTx commits when fn returns nil. It rolls
// back when fn returns an error, panics or calls runtime.Goexit, and when ctx has ended or the lock was
// lost. opts are those of [sql.DB.BeginTx]; nil is the default.
//
// name, timeout, ctx and the ctx of fn are as in [Locker.WithLock]. WithLockTx returns fn's
// error as it is. If fn returned nil, the error says what came of the transaction:
//
//   - nil: it is committed, and the lock was held to the end.
//   - An error that matches ErrCommitUnknown: the answer to COMMIT was lost.
//   - An error that matches ErrLost: nothing is committed, unless its text says that the
//     lock was lost after the commit.
//   - An error that matches ctx.Err(): ctx ended before COMMIT. Nothing is committed.
//   - sql.ErrTxDone: fn has ended the transaction itself.
//   - Any other: the server refused START TRANSACTION or COMMIT. Nothing is committed.
//
// The session belongs to this call alone: at the cap ([WithMaxSessions]) the call waits for one,
// within timeout. Locks that are taken under fn's ctx are taken on it, in the transaction, and
// no error of theirs ends it. Another WithLockTx under fn's ctx is ErrInTransaction.
//
// A ctx that ends in the middle of a statement of fn's makes the driver close the connection,
// and the statement fails at once. The server goes on with it, keeps the lock until it ends
// (max_execution_time bounds a SELECT), then rolls back and frees the lock. That is no loss.
//
// While rows of fn's are open, no other lock can be taken (ErrUnavailable) or released
// (ErrLost) under fn's ctx: close them first. Statements that commit by themselves, as CREATE
// TABLE does, commit what came before them. Take the named lock first and row locks after:
// a cycle that runs through both is found by no server, and ends by a timeout.
func (l *Locker) WithLockTx(ctx context.Context, name string, timeout time.Duration, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) error) (err error) {
	if fn == nil {
		return acquireError(name, errNoFunction)
	}
	if err := checkTxOptions(opts); err != nil {
		return acquireError(name, err)
	}
	ctx, seen := l.see(ctx, Event{Method: "WithLockTx", Name: name, Timeout: timeout})
	lock, err := l.getLock(ctx, name, queue.Terms{Timeout: timeout, Left: timeout, Own: true, Tx: true}) // GET_LOCK
	if err != nil {
		seen.failed(ctx, err)
		return err
	}
	fnCtx := lock.grant.Context(ctx, lock.lost)
	tx := transaction{lock: lock}
	defer func() {
		lost := lock.Release() // RELEASE_LOCK
		defer seen.released(fnCtx, lost, err, tx.stage == running)
		err = lock.endTx(tx.stage, err, lost)
	}()
	fnCtx = seen.got(fnCtx)
	return tx.run(ctx, fnCtx, opts, fn)
}

// A transaction is one on the session of a lock.
type transaction struct {
	lock  *Lock
	stage txStage
}

// run runs START TRANSACTION, fn, and COMMIT or ROLLBACK. fnCtx is ctx under the lock.
func (t *transaction) run(ctx, fnCtx context.Context, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) error) error {
	grant, name := t.lock.grant, t.lock.name
	defer func() {
		if t.stage == running {
			grant.Rollback() // ROLLBACK
		}
	}()
	tx, err := grant.Begin(opts) // START TRANSACTION
	if err != nil {
		return &Error{Op: OpBegin, Name: name, Err: err}
	}
	t.stage = running
	if err := fn(fnCtx, tx); err != nil {
		grant.Rollback() // ROLLBACK
		t.stage = failed
		return err
	}
	if fnCtx.Err() != nil {
		grant.Rollback() // ROLLBACK
		t.stage = failed
		return t.lock.whyEnded(ctx, fnCtx)
	}
	err = grant.Commit() // COMMIT
	if err != nil {
		t.stage = failed
		if !errors.Is(err, sql.ErrTxDone) {
			err = &Error{Op: OpCommit, Name: name, Err: err}
		}
		return err
	}
	t.stage = committed
	return nil
}

// A txStage is how far a transaction has come.
type txStage int

const (
	beginning txStage = iota // fn has not run
	running                  // fn runs, or has panicked or called Goexit
	failed                   // the transaction is not committed, as far as is known, and the error says why
	committed
)

// endTx adds to err what the release found.
func (k *Lock) endTx(stage txStage, err, lost error) error {
	switch {
	case lost == nil, stage == beginning, errors.Is(err, ErrCommitUnknown):
		return err
	case stage == running:
		// fn panics or exits, and goes on doing so: there is nobody to tell.
		k.call.lostUntold(lost)
		return err
	case stage == committed:
		return fmt.Errorf("%w (after the transaction was committed)", lost)
	case errors.Is(err, ErrLost):
		return err
	}
	return errors.Join(err, lost)
}

// whyEnded is the error for an fn that returned nil though its ctx had ended.
func (k *Lock) whyEnded(ctx, fnCtx context.Context) error {
	cause := context.Cause(fnCtx)
	if ctx.Err() != nil {
		cause = queue.ContextError(ctx)
	}
	if errors.Is(cause, ErrLost) {
		return cause
	}
	return &Error{Op: OpCommit, Name: k.name, Err: cause}
}

// checkTxOptions returns an error for what MySQL does not have.
func checkTxOptions(opts *sql.TxOptions) error {
	if opts == nil {
		return nil
	}
	switch opts.Isolation {
	case sql.LevelDefault, sql.LevelReadUncommitted, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable:
		return nil
	}
	return fmt.Errorf("isolation level %v: MySQL has Read Uncommitted, Read Committed, Repeatable Read and Serializable", opts.Isolation)
}
