package namedlock

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/queue"
)

// WithTerm is [Locker.WithLock] with a session to itself, on which fn runs as many
// transactions as it needs: see [Term.WithTx]. The lock stays held between them.
//
// name, timeout, the ctx of fn, and the errors are as in WithLock. Use WithTerm
// instead of [Locker.WithLockTx] if one transaction is too long, or if fn works on
// something else between two transactions: a WithLockTx for each of them would let
// other callers have the lock in between.
//
// # After a loss
//
// Each transaction is fenced: after a loss none is committed, however late this
// process notices. What fn does outside the database is not fenced. For that, have
// the term's first transaction insert a row into a table with an AUTO_INCREMENT
// column. Send its number along as a fencing token, and have the receiver refuse a
// number lower than the highest one that it has seen (examples/recipes has both).
//
// # Sessions and nested locks
//
// The session is exclusive, as that of WithLockTx: it does not count towards
// [WithMaxSessions] while fn runs. If none is free within timeout, the error matches
// [ErrNoSession]. Locks that are acquired under fn's ctx are on the same session.
// Another WithTerm, a WithLockTx or a Lead under fn's ctx is [ErrInTransaction].
//
// What fn has changed on the session is set right at the end of the term, as after
// a WithLockTx.
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

// term runs fn for one term, and releases the lock. It reports whether the lock was held
// when fn returned, what fn returned, and what the release found.
func (k *Lock) term(fn func(ctx context.Context, term *Term) error) (held bool, returned, lost error) {
	returned, lost = k.hold(func(ctx context.Context) error {
		term := &Term{lock: k, turn: make(chan struct{}, 1)}
		var end context.CancelFunc
		term.ctx, end = context.WithCancel(ctx)
		defer func() {
			held = k.ctx.Err() == nil
			end()
			term.turn <- struct{}{} // when the last transaction has ended; it is not given back
		}()
		return fn(term.ctx, term)
	})
	return held, returned, lost
}

// A Term is the time for which one process has the lock of [Locker.WithTerm] or
// [Locker.Lead]. It is safe for concurrent use. The zero Term is not valid: its
// WithTx returns an error.
type Term struct {
	lock *Lock
	ctx  context.Context // of fn; ends with the term
	turn chan struct{}   // has one: whose transaction it is
}

// inTerm is the context of the code in a transaction of a term.
type inTerm struct{}

// WithTx runs START TRANSACTION, fn and COMMIT on the session that holds the lock
// of t. What fn writes is committed under the lock, or not at all: once the lock is
// lost nothing is committed, however late this process notices.
//
// [Locker.WithLockTx] has the whole contract of opts, tx, the errors, Error.Tx, and
// what fn must not do. It differs here in three points:
//
//   - If the term is over, or was lost, the error matches [ErrLost]. Tx is TxNone
//     if fn has not run.
//   - A loss after COMMIT is not reported here: it ends the term. So Tx is never
//     TxCommitted.
//   - What fn changed on the session is set right at the end of the term, not of
//     each call.
//
// Concurrent calls take turns. The wait for a turn ends with ctx, and with the
// term. A call under the ctx of another call's fn is [ErrInTransaction]. If a
// transaction still runs when the term's function returns, its ctx ends, and its
// end is waited for.
//
// ctx must be the ctx passed to the term's function, one derived from it, or one
// that carries no lock. If it ends during one of fn's statements, the driver
// closes the connection: that ends the term. Between statements it costs nothing.
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

// check returns ctx as one of the term's call chain, or an error for a call that cannot be.
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

// over is why there is no transaction in this term any more.
func (t *Term) over() error {
	cause := context.Cause(t.ctx)
	if errors.Is(cause, ErrLost) {
		return bare(cause)
	}
	return fault.Because(ErrLost, "the term is over", cause)
}

var errZeroTerm = errors.New("the Term was not made by WithTerm or Lead")
