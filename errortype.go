package namedlock

import (
	"context"
	"errors"
	"iter"
)

// errorTypes has every sentinel, the most specific first, because errors.Is may
// match several of them.
var errorTypes = []struct {
	is  error
	typ string
}{
	// These say more than the error of fn that they are joined to.
	{ErrCommitUnknown, "commit_unknown"},
	{ErrTxEnded, "tx_ended"},
	// A lost lock ends the context of the waits under it.
	{ErrLost, "lost"},
	// The cause of a context may be any of the errors below.
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "deadline_exceeded"},
	// ErrNoSession also matches ErrTimeout.
	{ErrNoSession, "no_session"},
	{ErrTimeout, "timeout"},
	{ErrReentrant, "reentrant"},
	{ErrInTransaction, "in_transaction"},
	{ErrDeadlock, "deadlock"},
	{ErrInterrupted, "interrupted"},
	{ErrUnavailable, "unavailable"},
	{ErrInvalidName, "invalid_name"},
	{ErrInvalidTimeout, "invalid_timeout"},
	{ErrUnsupported, "unsupported"},
	{ErrClosed, "closed"},
}

// ErrorType returns a short text that classifies err, for a label of a metric
// or OpenTelemetry's error.type. It depends only on the sentinel that err
// matches:
//
//	ErrCommitUnknown  commit_unknown      ErrDeadlock        deadlock
//	ErrTxEnded        tx_ended            ErrInterrupted     interrupted
//	ErrLost           lost                ErrUnavailable     unavailable
//	context.Canceled  canceled            ErrInvalidName     invalid_name
//	context.          deadline_exceeded   ErrInvalidTimeout  invalid_timeout
//	DeadlineExceeded                      ErrUnsupported     unsupported
//	ErrNoSession      no_session          ErrClosed          closed
//	ErrTimeout        timeout             any other error    other
//	ErrReentrant      reentrant           nil                the empty string
//	ErrInTransaction  in_transaction
//
// If err matches several of them, the first in the order of the columns counts.
// An error that fn returned can also match: see [Error].
func ErrorType(err error) string {
	if err == nil {
		return ""
	}
	for _, t := range errorTypes {
		if errors.Is(err, t.is) {
			return t.typ
		}
	}
	return "other"
}

// ErrorTypes returns each type that [ErrorType] can return, with its error, in
// the order in which ErrorType tries them. The empty string and "other" are
// left out. So a program can export a counter for each type before the first
// error.
func ErrorTypes() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, t := range errorTypes {
			if !yield(t.typ, t.is) {
				return
			}
		}
	}
}
