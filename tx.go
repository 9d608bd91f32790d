package namedlock

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/queue"
)

// WithLockTx acquires the lock, runs fn in a transaction on the same session,
// commits, and releases the lock. It sends GET_LOCK, START TRANSACTION, fn's
// statements, COMMIT and RELEASE_LOCK, in this order.
//
// name, timeout, ctx and fn's ctx are as in [Locker.WithLock].
//
// # The transaction
//
// The writes of fn through tx are committed under the lock, or not at all. When
// a session ends, the server first rolls back and then frees the lock (measured
// on MySQL 9.7 and MariaDB 10.11). A process that has lost the lock therefore
// cannot commit, however late it notices. This needs no fencing token and no
// clock.
//
// Use tx for everything that the lock protects. Its snapshot is taken after the
// lock is acquired. WithLockTx commits if fn returns nil. It rolls back if fn
// returns an error, panics or calls runtime.Goexit, if ctx has ended, or if the
// lock was lost. opts are those of [sql.DB.BeginTx]; nil means the defaults.
//
// # Errors
//
// Error.Tx says what became of the transaction: see [TxOutcome]. If fn returned
// nil, the result is one of these:
//
//   - nil: the transaction was committed, and the lock was held to the end.
//   - [ErrTxEnded]: the transaction had ended before COMMIT. Tx is TxUnknown,
//     because each statement after its end was committed at once.
//   - [ErrCommitUnknown]: the answer to COMMIT was lost. Tx is TxUnknown,
//     because the server has committed everything or nothing.
//   - [ErrLost]: Tx is TxNotCommitted if the loss came before COMMIT, and
//     TxCommitted if it came after. Tx is TxUnknown if the error also matches
//     ErrTxEnded or [sql.ErrTxDone]. Tx is also TxUnknown if only a savepoint
//     would have shown the state of the transaction (see below). The same holds
//     if the owner of the connection given to [New] has closed it.
//   - An error that matches ctx.Err(): ctx ended before COMMIT. Tx is
//     TxNotCommitted, or TxUnknown if the error also matches ErrTxEnded or
//     sql.ErrTxDone.
//   - [sql.ErrTxDone], which is not an *Error: fn called tx.Commit or
//     tx.Rollback.
//   - Any other error: if Tx is TxNone, the lock was not acquired, or START
//     TRANSACTION failed. If Tx is TxNotCommitted, the server refused COMMIT,
//     or COMMIT was not sent; the text says why.
//
// If fn returned an error, the transaction was rolled back, unless fn had ended
// it. WithLockTx returns fn's error unchanged. Another error is joined to it
// ([errors.Join]) in three cases:
//
//   - ErrTxEnded: not everything could be rolled back.
//   - An error that matches ctx.Err(): ctx has ended, and fn's error does not
//     match ctx.Err(). The driver may return any error for a statement that was
//     cut off.
//   - ErrLost: the lock was lost.
//
// The joined error comes first in the list, so that [errors.As] finds its Tx.
// If only fn's error is returned and it is an *Error, it is that of a nested
// call: its Tx is TxNone.
//
// # How ErrTxEnded is detected
//
// The server's answers have a status flag that says whether a transaction is
// open. go-sql-driver keeps the flag, and WithLockTx reads it before COMMIT.
// That costs no round trip.
//
// If the flag cannot be used, WithLockTx sends two more statements: SAVEPOINT
// namedlock_transaction after START TRANSACTION, and RELEASE SAVEPOINT before
// COMMIT. The flag cannot be used in these cases:
//
//   - A wrapper hides the driver (see [WithUnwrap]).
//   - The session has autocommit=0.
//   - The server is MariaDB before 10.11, whose flag does not show that a
//     deadlock has ended the transaction.
//
// These are the limits of the flag:
//
//   - An error has no flags. If fn's last statement is the victim of a deadlock
//     and fn returns nil, the transaction counts as open, and the result is
//     nil.
//   - Rows that are open when fn returns may hide that a later part of their
//     statement ended the transaction.
//   - A START TRANSACTION or a COMMIT AND CHAIN that fn sends as a text is not
//     detected: after it a transaction is open again.
//   - SET autocommit=0 by fn is reported as ErrTxEnded, because the flag shows
//     nothing after it.
//
// These are the limits of the savepoint:
//
//   - It cannot be released while rows are open. If fn leaves rows open, the
//     transaction is rolled back, and the text says that rows are open.
//   - Nothing is checked if fn returns a server error 1213, 1205 or 1020: it is
//     taken for the answer to fn's last statement.
//
// With [New] and [WithoutServerCheck], on a driver that is hidden, nothing is
// checked, and nothing is restored after fn.
//
// # Statements to avoid
//
//   - Statements after a deadlock (error 1213). The server has rolled back
//     everything, and only fn can see that. Return the error as it is.
//   - Statements that end the transaction: a text COMMIT or ROLLBACK, a
//     procedure that runs one of them, or a statement that commits implicitly,
//     such as CREATE TABLE or LOCK TABLES.
//   - Row locks before the named lock. No server detects a deadlock between the
//     two kinds; only a timeout ends it.
//
// Close rows. While rows are open, no other lock can be acquired under fn's ctx
// ([ErrUnavailable]). A release of another lock then waits for the end of the
// rows, for at most three quarters of a keep-alive interval. After that it
// returns [ErrLost].
//
// # After fn
//
// When the last lock of the session is released, the Locker checks the session,
// before it serves another lock or goes back to its db:
//
//   - Locks that fn acquired with GET_LOCK are released. This is logged.
//   - If fn changed a setting that the Locker relies on, the session is closed.
//     A connection given to New is not closed: its settings are restored, and
//     it is closed only if that fails.
//   - After ErrTxEnded the session is closed. On a connection given to New,
//     tables are unlocked instead.
//   - Other settings, the database that USE has chosen, user variables,
//     temporary tables, LOCK INSTANCE FOR BACKUP and an open HANDLER stay. The
//     HANDLER blocks ALTER TABLE and DROP TABLE of other sessions.
//   - The global read lock of FLUSH TABLES WITH READ LOCK stays if fn then
//     sends START TRANSACTION as a text, because that is not detected. It
//     blocks all writes on the server until the connection is closed.
//
// The Locker relies on these settings: the character sets and the connection's
// collation, wait_timeout, MariaDB's idle_*_timeout, autocommit,
// sql_select_limit, completion_type, the isolation level, read-only mode, and
// the time limit for statements. If the server does not report one of them, the
// session is closed (with [Open]).
//
// # Time limits
//
// COMMIT and ROLLBACK may each take half of the time after which the server
// closes an idle session, and at most 35 s. With Open and its lease of 1 minute
// that is 30 s: see [WithLease]. A COMMIT that takes longer is
// ErrCommitUnknown. After a ROLLBACK that takes longer, the session is closed.
// The server continues to roll back, and frees the lock after that. The result
// then matches ErrLost.
//
// # Sessions and nested locks
//
// The call has its session to itself. This session does not count towards
// [WithMaxSessions] while fn runs; its limits are described there. If none is
// free within timeout, the error matches [ErrNoSession]. Under a lock of
// [Locker.WithLock] or [Locker.Acquire], the transaction may have another
// session than that lock.
//
// Locks that are acquired under fn's ctx are on the session of the transaction,
// and their errors do not end it. While another goroutine of fn runs a
// statement of the transaction, such a lock is not asked for. Its timeout
// begins when the statement has ended. Calling WithLockTx, [Locker.WithTerm] or
// [Locker.Lead] under fn's ctx returns [ErrInTransaction].
//
// # Cancellation
//
// If a ctx ends during one of fn's statements, the driver closes the
// connection, and the statement fails at once. The server does not notice. It
// finishes the statement, then rolls back and frees the lock.
// (max_execution_time limits a SELECT.) Until then it keeps the lock, so this
// is not a loss. If fn then returns nil, Tx is TxNotCommitted. The server does
// the same if the process dies during a statement.
//
// If a wrapper hides the driver, this case is reported as [ErrLost], because
// the cause cannot be seen there.
func (l *Locker) WithLockTx(ctx context.Context, name string, timeout time.Duration, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) error) error {
	if fn == nil {
		return acquireError(name, errNoFunction)
	}
	if err := checkTxOptions(opts); err != nil {
		return acquireError(name, err)
	}
	lock, err := l.getLock(ctx, Event{Method: "WithLockTx", Name: name, Timeout: timeout}, queue.Terms{Timeout: timeout, Left: timeout, Use: queue.ForTx}) // GET_LOCK
	if err != nil {
		return err
	}
	ctx, tx := lock.ctx, &transaction{lock: lock}
	lock.tx = &tx.outcome
	returned, lost := lock.hold(func(fnCtx context.Context) error { return tx.run(ctx, fnCtx, opts, fn) })
	return tx.withLoss(returned, lost)
}

// TxInterface is for code that calls [Locker.WithLockTx] or [DoTx]: see
// [Interface]. *Locker and the Locker of package locktest implement it.
type TxInterface interface {
	WithLockTx(ctx context.Context, name string, timeout time.Duration, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) error) error
}

// DoTx is [Locker.WithLockTx] for a function that returns a value. The error is
// that of l.WithLockTx.
//
// The value is that of fn if the transaction was committed or may have been:
// the error is nil, or fn returned nil and Error.Tx is neither TxNone nor
// TxNotCommitted. Otherwise it is zero. So a value that was read or made in a
// transaction that was rolled back does not escape, as it would through a
// variable that fn sets.
func DoTx[T any](ctx context.Context, l TxInterface, name string, timeout time.Duration, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) (T, error)) (T, error) {
	var value, zero T
	if fn == nil {
		return zero, acquireError(name, errNoFunction)
	}
	failed := true
	err := l.WithLockTx(ctx, name, timeout, opts, func(ctx context.Context, tx *sql.Tx) error {
		v, err := fn(ctx, tx)
		value, failed = v, err != nil
		return err
	})
	if e := (*Error)(nil); failed || errors.As(err, &e) && (e.Tx == TxNone || e.Tx == TxNotCommitted) {
		return zero, err
	}
	return value, err
}

// A transaction is one on the session of a lock.
type transaction struct {
	lock    *Lock
	stage   txStage
	outcome TxOutcome
	told    bool // an error of the call, and not of fn, reports a loss or an unknown outcome of COMMIT
}

// A txStage is how far a transaction has come.
type txStage int

const (
	beginning txStage = iota // fn has not run
	running                  // fn runs, or has panicked or called Goexit
	over                     // outcome says what became of it
)

// run runs START TRANSACTION, fn, and COMMIT or ROLLBACK. fnCtx is ctx under
// the lock.
func (t *transaction) run(ctx, fnCtx context.Context, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) error) error {
	grant := t.lock.grant
	defer func() {
		if t.stage == running {
			ended := grant.Rollback(nil) // ROLLBACK
			t.end(outcomeOf(ended))
			if errors.Is(ended, ErrTxEnded) {
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
		return t.failed(ctx, fnCtx, err, grant.Rollback(err)) // ROLLBACK
	}
	if fnCtx.Err() != nil {
		ended := grant.Rollback(nil) // ROLLBACK
		return t.failed(ctx, fnCtx, nil, and(t.lock.whyEnded(ctx, fnCtx), ended))
	}
	err = grant.Commit() // COMMIT
	switch {
	case err == nil:
		t.end(TxCommitted)
		return nil
	case err == sql.ErrTxDone: // fn has called Commit or Rollback, and knows which
		t.end(TxUnknown)
		return err
	}
	t.end(outcomeOf(err))
	return t.error(OpCommit, err)
}

func (t *transaction) end(outcome TxOutcome) { t.stage, t.outcome = over, outcome }

// outcomeOf is the outcome of a transaction that ends with err, without an OK
// for COMMIT.
func outcomeOf(err error) TxOutcome {
	for _, unknown := range []error{ErrCommitUnknown, ErrTxEnded, sql.ErrTxDone, fault.ErrTxUnseen} {
		if errors.Is(err, unknown) {
			return TxUnknown
		}
	}
	return TxNotCommitted
}

func (t *transaction) error(op string, err error) error {
	t.told = t.told || errors.Is(err, ErrLost) || errors.Is(err, ErrCommitUnknown)
	return &Error{Op: op, Name: t.lock.name, Tx: t.outcome, Err: err}
}

// failed is the error for a transaction that was rolled back: fn's error
// unchanged, unless ended is not nil. ended says that not everything could be
// rolled back, or why it was rolled back although fn returned nil.
func (t *transaction) failed(ctx, fnCtx context.Context, returned, ended error) error {
	t.end(outcomeOf(ended))
	if ended == sql.ErrTxDone { // fn has called Commit or Rollback, and knows that
		ended = nil
	}
	loss := lossIn(fnCtx, returned)
	switch {
	case ended != nil:
	case loss != nil:
		ended = loss
	case ctx.Err() != nil && !errors.Is(returned, ctx.Err()):
		// The driver may return any error for a statement that was cut off.
		ended = t.lock.whyEnded(ctx, fnCtx)
	}
	if ended == nil {
		return returned
	}
	return both(t.error(OpCommit, ended), returned) // ours first, for errors.As
}

// lossIn is the loss of the lock if fn has returned a loss. That may be the
// loss of this lock, as the cause of its context, or of a nested lock on the
// same session. The Errors of a loss report no outcome.
func lossIn(fnCtx context.Context, returned error) error {
	if cause := context.Cause(fnCtx); errors.Is(returned, ErrLost) && errors.Is(cause, ErrLost) {
		return bare(cause)
	}
	return nil
}

// withLoss adds to err the loss that the release found.
func (t *transaction) withLoss(err, lost error) error {
	if lost == nil || t.stage == beginning || t.told {
		return err
	}
	return both(lost, err) // ours first, for errors.As
}

// whyEnded is the reason why there is no COMMIT although fn returned nil: its
// ctx had ended. In a term a loss of k also ends ctx. The caller has not caused
// that end.
func (k *Lock) whyEnded(ctx, fnCtx context.Context) error {
	cause := context.Cause(fnCtx)
	if ctx.Err() != nil && !k.isLoss(context.Cause(ctx)) {
		cause = contextEnded(ctx)
	}
	return bare(cause)
}

// contextEnded is the error for the end of ctx while the code under the lock
// was running or was about to. It matches ctx's Err and its Cause, as
// queue.ContextError does.
func contextEnded(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return fmt.Errorf("the context ended: %w", cause)
	}
	return fmt.Errorf("the context ended: %w: %w", err, cause)
}

// isLoss reports whether cause is the loss of k, and not of a lock around it.
func (k *Lock) isLoss(cause error) bool {
	e, ok := cause.(*Error)
	return ok && e.Name == k.name && errors.Is(e, ErrLost)
}

// and returns err and a second error in one line.
func and(err, beside error) error {
	if beside == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, beside)
}

// bare returns the error inside an *Error of this package.
func bare(err error) error {
	if e, ok := err.(*Error); ok {
		return e.Err
	}
	return err
}

// checkTxOptions returns an error for an isolation level that MySQL does not
// have.
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
