package namedlock

import (
	"strconv"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/printable"
)

// What can go wrong, for errors.Is. Every error that a Locker or a Lock returns
// of its own is an *Error that matches one of these or, where the caller's context
// ended first, ctx.Err() and context.Cause(ctx). Two kinds of *Error match none: for
// a nil function or context, or an invalid number of slots; and for a transaction whose COMMIT was refused, or not
// sent because fn left rows open or a statement was cut off. [sql.ErrTxDone] is
// returned as it is. [Error] describes what an error says about fn and its
// transaction. [ErrorType] makes a label for metrics of an error.
var (
	// ErrTimeout: others had the lock until the timeout had passed. Nothing is held. (It is
	// matched by ErrNoSession, too.) Error.Holder tells who was in the way, where that is known.
	// An ErrTimeout that comes out of [Locker.WithLock] may be that of a lock which fn asked for:
	// Error.Name tells.
	ErrTimeout = fault.ErrTimeout

	// ErrNoSession: no session was free until the timeout had passed, so the server was
	// not asked for the lock, which may be free. [Locker.Check], [Locker.Holder] and
	// [Locker.Holders] return it if no connection of the db was free within 5 s. Nothing
	// is held. The text has the numbers. It matches ErrTimeout as well: test for
	// ErrNoSession first. To mend it, raise sql.DB.SetMaxOpenConns or [WithMaxSessions].
	ErrNoSession = fault.ErrNoSession

	// ErrLost: the lock was not provably held to the end. Its session had gone, or
	// RELEASE_LOCK did not return 1. Others may have had the lock meanwhile; it is
	// not held any more. Of a transaction Error.Tx says what became of it: TxCommitted,
	// if the loss came after the commit. An ErrLost of a call under another lock may be
	// the loss of that lock: Error.Op is then OpAcquire, and fn has not run.
	ErrLost = fault.ErrLost

	// ErrReentrant: the call chain, that is the ctx, holds the lock already, perhaps in
	// another letter case, or has a slot of the name. It stays held.
	ErrReentrant = fault.ErrReentrant

	// ErrDeadlock: the holder of the lock waits for a lock of this call chain, as
	// this Locker or the server found. Nothing more is held; the chain keeps what it
	// had, and should release it.
	ErrDeadlock = fault.ErrDeadlock

	// ErrInterrupted: somebody ended the wait on the server, by KILL QUERY. It says
	// nothing about the lock. Nothing is held.
	ErrInterrupted = fault.ErrInterrupted

	// ErrUnavailable: the server could not be asked; the driver's error is inside.
	// Nothing is held. No call begins to wait for a server that is down: pause before the next
	// call. A wait that has begun goes on trying, as at a failover, if timeout or a deadline of
	// ctx bounds it. At the end of timeout the error is then ErrUnavailable; at the end of ctx
	// it matches ctx.Err(). A wait without a bound ([Forever], and a ctx without a deadline)
	// ends with ErrUnavailable when an attempt on a second session has failed, too.
	ErrUnavailable = fault.ErrUnavailable

	// ErrInvalidName: the name, with its namespace, is not 1 to 64 characters of
	// valid UTF-8 from the Basic Multilingual Plane without NUL, or [Locker.WithLocks] was
	// given none, or it is longer than [Locker.WithSlot] has room for: 59. No SQL was sent.
	ErrInvalidName = fault.ErrInvalidName

	// ErrInvalidTimeout: the timeout is negative. No SQL was sent.
	ErrInvalidTimeout = fault.ErrInvalidTimeout

	// ErrUnsupported: this server, session or pool cannot keep the promises; the
	// text says why and what to do. It is also for a [Locker.Lead] for which the db
	// allows too few connections.
	ErrUnsupported = fault.ErrUnsupported

	// ErrClosed: the Locker is closed, or was closed during the wait. Nothing is
	// held.
	ErrClosed = fault.ErrClosed

	// ErrCommitUnknown: the answer to COMMIT was lost; the driver's error is inside. The
	// server has committed all of the transaction, or nothing. [Locker.WithLockTx]
	// and [Term.WithTx] alone return it, and then not ErrLost. Error.Tx is TxUnknown.
	ErrCommitUnknown = fault.ErrCommitUnknown

	// ErrTxEnded: the transaction of [Locker.WithLockTx] or [Term.WithTx] had ended before
	// COMMIT, and not by a call of tx.Commit or tx.Rollback. The server had rolled it back (the
	// victim of a deadlock), or a procedure, a text COMMIT or ROLLBACK, or DDL had ended it. What
	// fn did after that was committed at once, statement by statement. What it did before was
	// committed or rolled back, as the transaction was. Error.Tx is TxUnknown. If fn returned an
	// error, ErrTxEnded is joined to it. WithLockTx says what the library can and cannot see.
	ErrTxEnded = fault.ErrTxEnded

	// ErrInTransaction: [Locker.WithLockTx] was called under a lock of WithLockTx, [Locker.WithTerm] or [Locker.Lead], or [Term.WithTx] under
	// another's transaction. A second START TRANSACTION would commit the first. No SQL was sent.
	ErrInTransaction = fault.ErrInTransaction
)

// What Error.Op says was being done.
const (
	OpAcquire  = "acquire"  // taking a lock, or leading
	OpHold     = "hold"     // the code under the lock ran: the cause of a context that a loss has ended
	OpRelease  = "release"  // giving the lock back
	OpBegin    = "begin"    // beginning a transaction
	OpCommit   = "commit"   // ending one
	OpInspect  = "inspect"  // asking who holds a lock
	OpCheck    = "check"    // [Locker.Check]
	OpShutdown = "shutdown" // [Locker.Shutdown]
)

// Error is what a Locker or a Lock returns, for errors.As. The zero value is not
// valid; its text says so.
//
// # Has fn run?
//
// An Error whose Name is the name of the call answers that by its Op:
//
//   - [Locker.WithLock], [Do]: fn has not run if Op is OpAcquire.
//   - [Locker.WithLocks]: fn has not run if Op is OpAcquire and Name is any of the
//     call's names.
//   - [Locker.WithLockTx]: fn has not run if Op is OpAcquire or OpBegin.
//   - [Locker.WithTerm], [Locker.WithSlot]: fn has not run if Op is OpAcquire.
//   - [Term.WithTx]: fn has not run if Op is OpBegin. Name is that of the term's lock.
//   - [Locker.Lead]: if Op is OpAcquire, fn was not running when ctx ended or Lead
//     gave up. It may have run before, in terms that were lost. If Op is OpHold, fn
//     was running when ctx ended.
//   - [Locker.Acquire] returns no lock with an error. [Lock.Release] returns an
//     Error, with OpRelease, if code under the lock may not have been alone.
//
// Every other error, and every error with another Name, comes after fn has run: it is
// fn's own, or that of a nested call which fn returned, or of the end (OpHold,
// OpCommit, OpRelease).
//
// The answer is ambiguous only if fn itself asks for the name of the call. Its
// ErrReentrant then looks like that of a call whose ctx holds the lock already, and
// an ErrTimeout, on another Locker or under another ctx, like that of the call. If
// fn may do so, let it set a variable.
//
// # What became of the transaction?
//
// See Tx, [TxOutcome] and [Locker.WithLockTx].
type Error struct {
	Op     string    // one of the constants
	Name   string    // the lock's name as the caller wrote it; of Holders, the prefix
	Holder *Holder   // who was in the way when the timeout, or the context's deadline, ended the wait, or up to 2 s before; nil where that is not known
	Tx     TxOutcome // of WithLockTx and WithTx: what became of the transaction; of other calls TxNone
	Err    error     // matches one of the sentinels, or the context's error
}

// Error returns one line, whatever a server has reported: characters that are not printable
// are escaped as in a Go string literal. The errors inside have their texts as they came.
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
