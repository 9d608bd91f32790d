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
		err = tx.withLoss(err, lost)
	}()
	fnCtx = seen.got(fnCtx)
	return tx.run(ctx, fnCtx, opts, fn)
}

// A transaction is one on the session of a lock.
type transaction struct {
	lock    *Lock
	stage   txStage
	outcome TxOutcome
}

// A txStage is how far a transaction has come.
type txStage int

const (
	beginning txStage = iota // fn has not run
	running                  // fn runs, or has panicked or called Goexit
	over                     // outcome says what became of it
)

// run runs START TRANSACTION, fn, and COMMIT or ROLLBACK. fnCtx is ctx under the lock.
func (t *transaction) run(ctx, fnCtx context.Context, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) error) error {
	grant := t.lock.grant
	defer func() {
		if t.stage == running {
			if ended := grant.Rollback(nil); errors.Is(ended, ErrTxEnded) { // ROLLBACK
				t.lock.call.endedUntold(ended)
			}
		}
	}()
	tx, err := grant.Begin(opts) // START TRANSACTION
	if err != nil {
		return t.error(OpBegin, err)
	}
	t.stage = running
	if err := fn(fnCtx, tx); err != nil {
		return t.failed(ctx, err, grant.Rollback(err)) // ROLLBACK
	}
	if fnCtx.Err() != nil {
		ended := grant.Rollback(nil) // ROLLBACK
		return t.failed(ctx, nil, and(t.lock.whyEnded(ctx, fnCtx), ended))
	}
	err = grant.Commit() // COMMIT
	switch {
	case err == nil:
		t.end(TxCommitted)
		return nil
	case err == sql.ErrTxDone: // which fn knows, and what it ended by
		t.end(TxUnknown)
		return err
	}
	t.end(outcomeOf(err))
	return t.error(OpCommit, err)
}

func (t *transaction) end(outcome TxOutcome) { t.stage, t.outcome = over, outcome }

// outcomeOf is what became of a transaction that ends with err, for which no COMMIT was
// answered by OK.
func outcomeOf(err error) TxOutcome {
	for _, unknown := range []error{ErrCommitUnknown, ErrTxEnded, sql.ErrTxDone} {
		if errors.Is(err, unknown) {
			return TxUnknown
		}
	}
	return TxNotCommitted
}

func (t *transaction) error(op string, err error) error {
	return &Error{Op: op, Name: t.lock.name, Tx: t.outcome, Err: err}
}

// failed is the error for a transaction that was rolled back: what fn returned, as it is,
// unless there is more to say. ended says that not all of it could be rolled back, or why
// it was though fn returned nil.
func (t *transaction) failed(ctx context.Context, returned, ended error) error {
	t.end(outcomeOf(ended))
	if ended == sql.ErrTxDone { // which fn knows
		ended = nil
	}
	if ended == nil && ctx.Err() != nil && !errors.Is(returned, ctx.Err()) {
		// The driver's error for a statement that was cut off may be any.
		ended = queue.ContextError(ctx)
	}
	switch {
	case ended == nil:
		return returned
	case returned == nil:
		return t.error(OpCommit, ended)
	}
	return errors.Join(t.error(OpCommit, ended), returned) // ours first, for errors.As
}

// withLoss adds to err what the release found.
func (t *transaction) withLoss(err, lost error) error {
	switch {
	case lost == nil, t.stage == beginning, errors.Is(err, ErrCommitUnknown):
		return err
	case t.stage == running:
		// fn panics or exits, and goes on doing so: there is nobody to tell.
		t.lock.call.lostUntold(lost)
		return err
	case errors.Is(err, ErrLost):
		return err
	}
	if e := (*Error)(nil); errors.As(lost, &e) {
		e.Tx = t.outcome
	}
	if err == nil {
		return lost
	}
	return errors.Join(lost, err) // ours first, for errors.As
}

// whyEnded is why there is no COMMIT after an fn that returned nil though its ctx had ended.
func (k *Lock) whyEnded(ctx, fnCtx context.Context) error {
	cause := context.Cause(fnCtx)
	if ctx.Err() != nil {
		cause = queue.ContextError(ctx)
	}
	return bare(cause)
}

// and is err, and what was found beside it, in one line.
func and(err, beside error) error {
	if beside == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, beside)
}

// bare is the error inside an *Error of this package.
func bare(err error) error {
	if e, ok := err.(*Error); ok {
		return e.Err
	}
	return err
}

// A TxOutcome says what became of the transaction of [Locker.WithLockTx] or [Term.WithTx].
type TxOutcome int

const (
	// TxNone: there was no transaction: fn has not run.
	TxNone TxOutcome = iota
	// TxNotCommitted: the server has rolled it back, or does so.
	TxNotCommitted
	// TxCommitted: the server has committed it. The error is about what came after.
	TxCommitted
	// TxUnknown: it may be committed, or a part of it; the error says why.
	TxUnknown
)

// String returns "none", "not committed", "committed" or "unknown".
func (o TxOutcome) String() string {
	switch o {
	case TxNone:
		return "none"
	case TxNotCommitted:
		return "not committed"
	case TxCommitted:
		return "committed"
	case TxUnknown:
		return "unknown"
	}
	return fmt.Sprintf("TxOutcome(%d)", int(o))
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
