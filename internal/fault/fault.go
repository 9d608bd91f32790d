// Package fault holds the sentinel errors that the machinery returns and the
// root package publishes; what each means stands there, in errors.go.
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

	// ErrTxUnseen: the session of a transaction has gone, and nothing had shown
	// whether the transaction was still open.
	ErrTxUnseen = errors.New("could not determine whether the transaction was still open")

	// ErrReadOnly is an ErrUnsupported that may pass: the server may become the
	// primary.
	ErrReadOnly = fmt.Errorf("%w: the server is read-only", ErrUnsupported)
)

// Reason is a sentinel with the story of this one case: it reads as the story
// alone and matches the sentinel and the cause, where there is one.
type Reason struct {
	Sentinel error
	Text     string
	Cause    error
}

// Because returns sentinel with a text of its own and, unless it is nil, a
// cause that is added to the text.
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
