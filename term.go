package namedlock

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/queue"
)

// WithTerm acquires the lock, runs fn with a session to itself, and releases
// the lock. On this session fn runs as many transactions as it needs: see
// [Term.WithTx]. The lock stays held between them.
//
// name, timeout, fn's ctx and the errors are as in [Locker.WithLock].
//
// Use WithTerm instead of [Locker.WithLockTx] if one transaction is too long,
// or if fn works on something else between two transactions. With a WithLockTx
// for each, other callers could acquire the lock in between.
//
// # After a loss
//
// Each transaction is fenced: after a loss none is committed, however late this
// process notices. Work of fn outside the database is not fenced.
//
// For that work use a fencing token. In the term's first transaction, insert a
// row into a table with an AUTO_INCREMENT column. Send the row's number along
// with each request. The receiver must refuse a number lower than the highest
// that it has seen. examples/recipes has both sides.
//
// # Sessions and nested locks
//
// The session is exclusive, as that of WithLockTx: it does not count towards
// [WithMaxSessions] while fn runs. If none is free within timeout, the error
// matches [ErrNoSession].
//
// Locks that are acquired under fn's ctx are on the same session. While another
// goroutine of fn runs a statement of a transaction, such a lock is not asked
// for. Its timeout begins when the statement has ended. Calling WithTerm,
// WithLockTx or [Locker.Lead] under fn's ctx returns [ErrInTransaction].
//
// At the end of the term, the settings of the session that fn has changed are
// restored, or the session is closed, as after a WithLockTx.
func (l *Locker) WithTerm(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context, term *Term) error) error {
	if fn == nil {
		return acquireError(name, errNoFunction)
	}
	lock, err := l.getLock(ctx, Event{Method: "WithTerm", Name: name, Timeout: timeout}, queue.Terms{Timeout: timeout, Left: timeout, Use: queue.ForTerm}) // GET_LOCK
	if err != nil {
		return err
	}
	_, returned, lost := lock.term(fn)
	return both(returned, lost)
}

// term runs fn for one term, and releases the lock. held reports whether the
// lock was held when fn returned. returned is fn's error, and lost that of the
// release.
func (k *Lock) term(fn func(ctx context.Context, term *Term) error) (held bool, returned, lost error) {
	returned, lost = k.hold(func(ctx context.Context) error {
		term := &Term{lock: k, turn: make(chan struct{}, 1)}
		var end context.CancelFunc
		term.ctx, end = context.WithCancel(ctx)
		defer func() {
			held = k.ctx.Err() == nil
			term.returned.Store(true)
			end()
			term.turn <- struct{}{} // waits for the end of the last transaction; the turn is not given back
		}()
		return fn(term.ctx, term)
	})
	return held, returned, lost
}

// A Term is the time for which one process holds the lock of [Locker.WithTerm]
// or [Locker.Lead]. It is safe for concurrent use. The zero Term is not valid:
// its WithTx returns an error.
type Term struct {
	lock *Lock
	ctx  context.Context // of fn; ends with the term
	turn chan struct{}   // has room for one: the call whose transaction runs

	returned atomic.Bool // fn has returned, or has panicked or called Goexit
}

// inTerm is the key for the context of the code in a transaction of a term.
type inTerm struct{}

// WithTx runs fn in a transaction on the session that holds the lock of t, and
// commits. It sends START TRANSACTION, fn's statements and COMMIT. The writes
// of fn through tx are committed under the lock, or not at all. Once the lock
// is lost nothing is committed, however late this process notices.
//
// [Locker.WithLockTx] has the whole contract of opts, tx, the errors, Error.Tx,
// and the statements to avoid. WithTx differs in three points:
//
//   - If the term's function has returned, or its lock was lost, the error
//     matches [ErrLost]. Tx is TxNone if fn has not run.
//   - A loss after COMMIT is not reported here: it ends the term. So Tx is
//     never TxCommitted.
//   - Settings of the session that fn has changed are restored at the end of
//     the term, not of each call.
//
// # Contexts
//
// ctx must be the ctx passed to the term's function, one derived from it, or
// one that carries no lock of this Locker. If it ends during one of fn's
// statements, the driver closes the connection, and the term ends. If it ends
// between statements, the transaction is rolled back, and the term goes on.
//
// # Concurrent calls
//
// Concurrent calls take turns. The wait for a turn ends when ctx ends, and when
// the term ends. A call under the ctx of another call's fn returns
// [ErrInTransaction]. A call in another call's fn, but under a ctx from outside
// that fn, waits for that fn, and so for itself. If a transaction is still
// running when the term's function returns, its ctx ends, and the term waits
// for its end.
//
// # Time limits
//
// COMMIT and ROLLBACK may each take half of the lease, or half of a shorter
// limit of the server, and at most 35 s: see [WithLease]. If the network goes
// silent during one of them, this is noticed within that time, not within two
// keep-alive intervals: no keep-alive is sent while COMMIT or ROLLBACK runs.
// After a COMMIT that takes longer, the error is [ErrCommitUnknown]. In both
// cases the session is closed, and the term ends.
func (t *Term) WithTx(ctx context.Context, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) error) error {
	if t == nil || t.lock == nil {
		return &Error{Op: OpBegin, Err: errZeroTerm}
	}
	fnCtx, err := t.check(ctx, opts, fn)
	if err != nil {
		return &Error{Op: OpBegin, Name: t.lock.name, Err: err}
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
	case <-t.ctx.Done():
	}
	switch {
	case t.ctx.Err() != nil:
		return &Error{Op: OpBegin, Name: t.lock.name, Err: t.over()}
	case ctx.Err() != nil:
		return &Error{Op: OpBegin, Name: t.lock.name, Err: contextEnded(ctx)}
	}
	fnCtx, cancel := context.WithCancelCause(context.WithValue(fnCtx, inTerm{}, t))
	defer cancel(nil)
	defer context.AfterFunc(t.ctx, func() { cancel(context.Cause(t.ctx)) })()
	tx := transaction{lock: t.lock}
	err = tx.run(ctx, fnCtx, opts, fn)
	if err != nil && tx.stage == beginning && t.ctx.Err() != nil {
		return &Error{Op: OpBegin, Name: t.lock.name, Err: t.over()}
	}
	return err
}

// check returns ctx as one of the term's call chain, or an error for a call
// that is not possible.
func (t *Term) check(ctx context.Context, opts *sql.TxOptions, fn func(context.Context, *sql.Tx) error) (context.Context, error) {
	switch {
	case fn == nil:
		return nil, errNoFunction
	case ctx == nil:
		return nil, errNoContext
	case ctx.Value(inTerm{}) == t:
		return nil, fault.Because(ErrInTransaction, "already in a transaction of the term; use the *sql.Tx passed to fn", nil)
	}
	if err := checkTxOptions(opts); err != nil {
		return nil, err
	}
	return t.lock.grant.Within(ctx)
}

// over is the reason why no transaction is possible in this term any more. The
// end of the caller's context is not a loss: the lock is held until fn returns.
func (t *Term) over() error {
	cause := context.Cause(t.ctx)
	switch {
	case errors.Is(cause, ErrLost):
		return bare(cause)
	case t.returned.Load():
		return fault.Because(ErrLost, "the term is over", cause)
	}
	return contextEnded(t.ctx)
}

var errZeroTerm = errors.New("the Term was not made by WithTerm or Lead")
