package namedlock

import "fmt"

// A TxOutcome is the field Tx of an Error. It says what became of the
// transaction of [Locker.WithLockTx] or [Term.WithTx]. An error that contains
// no *Error is the one that fn returned: the transaction was rolled back,
// unless fn ended it by tx.Commit or tx.Rollback.
//
// After TxNone and TxNotCommitted the call can be repeated. After TxUnknown,
// check in the database whether the writes are there before you repeat it.
// After TxCommitted nothing is left to do in the database.
type TxOutcome int

const (
	// TxNone: there was no transaction, and fn has not run. It is also the
	// value in the errors of calls that have no transaction.
	TxNone TxOutcome = iota
	// TxNotCommitted: nothing was committed. The server has rolled back, or is
	// about to.
	TxNotCommitted
	// TxCommitted: everything was committed. The error is about a later event:
	// the lock was lost before its release.
	TxCommitted
	// TxUnknown: everything or a part may be committed. The error says why: it
	// matches [ErrCommitUnknown], [ErrTxEnded] or [sql.ErrTxDone]. If it
	// matches only [ErrLost], nothing shows any more whether the transaction
	// was still open. Only a savepoint would have, or the connection given to
	// [New] was closed by its owner.
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
