// Package fault has the sentinel errors that the internal packages return. The
// root package publishes them, and documents them in errors.go.
package fault

import (
	"errors"
	"fmt"
)

var (
	ErrTimeout        = errors.New("not acquired in time")
	ErrLost           = errors.New("lock lost")
	ErrReentrant      = errors.New("this call chain already holds the lock")
	ErrDeadlock       = errors.New("waiting would deadlock")
	ErrInterrupted    = errors.New("wait interrupted on the server (KILL QUERY); nothing is held")
	ErrUnavailable    = errors.New("server unavailable")
	ErrInvalidName    = errors.New("invalid lock name")
	ErrInvalidTimeout = errors.New("invalid timeout")
	ErrUnsupported    = errors.New("not supported")
	ErrClosed         = errors.New("locker is closed")
	ErrCommitUnknown  = errors.New("outcome of COMMIT unknown: all or nothing was committed; check before retrying")
	ErrTxEnded        = errors.New("the transaction ended before COMMIT, and later statements were committed one by one; check what was written")
	ErrNoSession      = fmt.Errorf("%w: no session was free", ErrTimeout)
	ErrInTransaction  = errors.New("already in a transaction")

	// ErrTxUnseen: the session of a transaction has ended, and it could not be
	// determined whether the transaction was still open.
	ErrTxUnseen = errors.New("could not determine whether the transaction was still open")

	// ErrReadOnly is an ErrUnsupported that can end: the server may become the
	// primary.
	ErrReadOnly = fmt.Errorf("%w: the server is read-only", ErrUnsupported)
)

// Reason is an error with a text for one case. Its text is Text and the text of
// Cause, if there is one. It matches Sentinel and Cause.
type Reason struct {
	Sentinel error
	Text     string
	Cause    error
}

// Because returns a Reason. If text is empty, the text of sentinel is used. If
// cause is not nil, its text is appended.
func Because(sentinel error, text string, cause error) error {
	return &Reason{Sentinel: sentinel, Text: text, Cause: cause}
}

func (r *Reason) Error() string {
	text := r.Text
	if text == "" {
		text = r.Sentinel.Error()
	}
	if r.Cause != nil {
		text += ": " + r.Cause.Error()
	}
	return text
}

func (r *Reason) Unwrap() []error {
	if r.Cause == nil {
		return []error{r.Sentinel}
	}
	return []error{r.Sentinel, r.Cause}
}
