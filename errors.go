package namedlock

import (
	"errors"
	"strconv"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/printable"
)

// The sentinel errors, for errors.Is. Every error that a Locker or a Lock
// returns of its own is an *Error, except [sql.ErrTxDone], which is returned as
// it is. The *Error matches one of the sentinels or, if the caller's context
// ended first, ctx.Err() and context.Cause(ctx).
//
// Two kinds of *Error match neither:
//
//   - An argument is not valid, or a Locker, Lock or Term is a zero value.
//     Arguments are a nil function, a nil context, a context of a different
//     lock, an isolation level, and a number of slots. (A name and a timeout
//     have sentinels.)
//   - COMMIT was refused. Or it was not sent, because fn left rows open or a
//     context ended during a statement of fn.
//
// [Error] describes what an error says about fn and its transaction.
// [ErrorType] makes a label for metrics of an error.
var (
	// ErrTimeout: the timeout passed while another caller held the lock, or
	// waited for it before this call. Nothing is held. Error.Holder is the
	// holder, if it is known. [ErrNoSession] also matches ErrTimeout.
	//
	// An ErrTimeout from [Locker.WithLock] may come from a nested lock that fn
	// asked for. Error.Name is the name of the lock that was not acquired.
	ErrTimeout = fault.ErrTimeout

	// ErrNoSession: no session was free until the timeout passed, so the server
	// was not asked for the lock, which may be free. Nothing is held. The text
	// has the numbers. To fix it, raise sql.DB.SetMaxOpenConns or
	// [WithMaxSessions]. ErrNoSession also matches ErrTimeout: test for
	// ErrNoSession first.
	//
	// [Locker.Check], [Locker.Holder] and [Locker.Holders] return it if no
	// connection of the db was free within 5 s.
	ErrNoSession = fault.ErrNoSession

	// ErrLost: it is not proved that the lock was held to the end. Its session
	// ended, or RELEASE_LOCK did not return 1. Another caller may have held the
	// lock in the meantime. The lock is not held any more. Error.Tx says what
	// became of a transaction: it is TxCommitted if the loss came after the
	// commit.
	//
	// If a call is nested, its ErrLost may be the loss of the outer lock.
	// Error.Op is then OpAcquire, and fn has not run.
	ErrLost = fault.ErrLost

	// ErrReentrant: the call chain (the ctx) already holds the lock, perhaps in
	// another letter case, or holds a slot of the name. It stays held.
	ErrReentrant = fault.ErrReentrant

	// ErrDeadlock: the holder of the lock waits for a lock of this call chain,
	// as detected by this Locker or by the server. Nothing more is held. The
	// chain keeps its other locks, and should release them.
	ErrDeadlock = fault.ErrDeadlock

	// ErrInterrupted: the wait was ended on the server, by KILL QUERY. It says
	// nothing about the lock. Nothing is held.
	ErrInterrupted = fault.ErrInterrupted

	// ErrUnavailable: the server could not be asked. The error wraps the
	// driver's error. The call has acquired nothing.
	//
	// A call does not start to wait for a server that is down. To retry, pause
	// and call again. A wait that has started continues through an outage, such
	// as a failover, if timeout or a deadline of ctx limits it. If the outage
	// lasts longer, the call returns ErrUnavailable at the end of timeout, and
	// an error that matches ctx.Err() at the end of ctx. Without a limit
	// ([Forever], and a ctx without a deadline) it returns ErrUnavailable after
	// attempts on two sessions in a row have failed. With [New] there is only
	// one session: once that has ended, every call returns ErrUnavailable at
	// once. So does every call, and every wait, once the Locker has found that
	// the db given to [Open] is closed.
	ErrUnavailable = fault.ErrUnavailable

	// ErrInvalidName: the name is not valid. With its namespace a name has 1 to
	// 64 characters (59 for [Locker.WithSlot]) of valid UTF-8 from the Basic
	// Multilingual Plane, without NUL. It is also returned if
	// [Locker.WithLocks] is given no names. No SQL was sent.
	ErrInvalidName = fault.ErrInvalidName

	// ErrInvalidTimeout: the timeout is negative. No SQL was sent.
	ErrInvalidTimeout = fault.ErrInvalidTimeout

	// ErrUnsupported: the promises cannot be kept on this server, session or
	// pool. The text says why, and what to do.
	//
	// During a wait a server that reports that it is read-only is retried for
	// 5 s, because a proxy needs a moment to switch to the new primary. Then
	// the call returns ErrUnsupported.
	//
	// [Locker.Lead] returns it if the db allows too few connections.
	// [Locker.Holder] and [Locker.Holders] return it if the server does not
	// show the holders.
	ErrUnsupported = fault.ErrUnsupported

	// ErrClosed: the Locker is closed, or was closed during the wait. Nothing
	// is held.
	ErrClosed = fault.ErrClosed

	// ErrCommitUnknown: the answer to COMMIT was lost. The server has committed
	// all of the transaction, or nothing. Error.Tx is TxUnknown. The error
	// wraps the driver's error, and does not match ErrLost. Only
	// [Locker.WithLockTx] and [Term.WithTx] return it.
	ErrCommitUnknown = fault.ErrCommitUnknown

	// ErrTxEnded: the transaction of [Locker.WithLockTx] or [Term.WithTx] had
	// ended before COMMIT, without a call of tx.Commit or tx.Rollback. The
	// server had rolled it back (as the victim of a deadlock), or it was ended
	// by a procedure, a text COMMIT or ROLLBACK, or DDL.
	//
	// The statements of fn before that were committed or rolled back, as the
	// transaction was. Each later statement was committed at once. Error.Tx is
	// TxUnknown. If fn returned an error, ErrTxEnded is joined to it.
	// WithLockTx lists the limits of the detection.
	ErrTxEnded = fault.ErrTxEnded

	// ErrInTransaction: [Locker.WithLockTx], [Locker.WithTerm] or [Locker.Lead]
	// was called under a lock of one of them, or [Term.WithTx] under another
	// transaction of its term. A second START TRANSACTION would commit the
	// first. No SQL was sent.
	//
	// It is also returned, with OpBegin, if the owner of the connection given to
	// [New] has a transaction open there.
	ErrInTransaction = fault.ErrInTransaction
)

// The values of Error.Op: what the call was doing. OpHold is in two errors: in
// the cause of a context that a loss has ended, and in that of [Locker.Lead] if
// ctx ended while fn was running.
const (
	OpAcquire  = "acquire"  // acquiring a lock, or leading
	OpHold     = "hold"     // running the code under the lock
	OpRelease  = "release"  // releasing the lock
	OpBegin    = "begin"    // beginning a transaction
	OpCommit   = "commit"   // ending a transaction
	OpInspect  = "inspect"  // asking which session holds a lock
	OpCheck    = "check"    // [Locker.Check]
	OpShutdown = "shutdown" // [Locker.Shutdown]
)

// Error is the type of the errors that a Locker or a Lock returns, for
// errors.As. The zero Error is not valid; its text says so.
//
// # Has fn run?
//
// If Name is the name of the call, Op answers this:
//
//   - [Locker.WithLock], [Do], [Locker.WithTerm], [Locker.WithSlot]: fn has not
//     run if Op is OpAcquire.
//   - [Locker.WithLocks]: fn has not run if Op is OpAcquire and Name is any of
//     the call's names.
//   - [Locker.WithLockTx], [DoTx]: fn has not run if Op is OpAcquire or
//     OpBegin.
//   - [Term.WithTx]: fn has not run if Op is OpBegin. Name is that of the
//     term's lock.
//   - [Locker.Lead]: if Op is OpAcquire, fn was not running when ctx ended or
//     Lead gave up. It may have run before, in terms that were lost. If Op is
//     OpHold, fn was running when ctx ended.
//   - [Locker.Acquire] returns no lock with an error. [Lock.Release] returns an
//     Error, with OpRelease, if another caller may have held the lock at the
//     same time.
//
// Any other error, and any error with another Name, means that fn has run. It
// is fn's own error, an error of a nested call that fn returned, or an error of
// the end (OpHold, OpCommit, OpRelease).
//
// The answer is ambiguous only if fn itself asks for the lock of the call. Its
// ErrReentrant then looks like that of a call whose ctx already holds the lock.
// Its ErrTimeout, on another Locker or under another ctx, looks like that of
// the call. If fn may do so, let it set a variable.
//
// # What became of the transaction?
//
// See Tx, [TxOutcome] and [Locker.WithLockTx].
type Error struct {
	Op   string // one of the constants
	Name string // the lock's name as the caller wrote it; of Holders, the prefix

	// Holder held the lock when the timeout or the context's deadline ended the
	// wait, or at most 2 s before. It is nil if it is not known.
	Holder *Holder

	// Tx says what became of the transaction of WithLockTx or WithTx. For other
	// calls it is TxNone.
	Tx TxOutcome

	// Err matches one of the sentinels, or the context's error, except for the
	// two kinds of errors that are listed with the sentinels.
	Err error
}

// Error returns one line, whatever text a server has sent. Characters that are
// not printable are escaped as in a Go string literal. The wrapped errors keep
// their texts unchanged.
func (e *Error) Error() string {
	if e.Err == nil {
		return "namedlock: an Error without a cause"
	}
	text := "namedlock: " + e.Op
	if e.Name != "" || e.Op != OpCheck && e.Op != OpShutdown && e.Op != OpInspect {
		text += " " + strconv.Quote(e.Name)
	}
	text += ": "
	if e.Tx == TxCommitted {
		text += "the transaction was committed; "
	}
	text += e.Err.Error()
	if e.Holder != nil {
		text += ": held by " + e.Holder.String()
		if e.Holder.Local {
			text += " (if the caller itself holds it, pass on the ctx that fn received)"
		}
	}
	if e.Op == OpCommit && e.Tx == TxNotCommitted {
		text += "; nothing was committed"
	}
	return printable.Text(text)
}

func (e *Error) Unwrap() error { return e.Err }

var (
	errNoFunction = errors.New("the function to run under the lock is nil")
	errNoContext  = errors.New("the context is nil")
	errZeroLocker = errors.New("the Locker was not made by New or Open")
	errZeroLock   = errors.New("the Lock was not returned by Acquire")
)

func acquireError(name string, err error) error {
	return &Error{Op: OpAcquire, Name: name, Err: err}
}
