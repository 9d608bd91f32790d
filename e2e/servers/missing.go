package servers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-namedlock/namedlock/internal/lateness"
)

// A MissingError means that a server's programs are not on this machine.
type MissingError struct {
	Kind   Kind
	Looked []string // the places that were searched
	Why    string   // the reason for not searching; "": the places were searched
}

func (e *MissingError) Error() string {
	if e.Why != "" {
		return fmt.Sprintf("%s: %s", e.Kind, e.Why)
	}
	return fmt.Sprintf("%s is not on this machine (looked for: %s); on a Debian-like machine run as root: e2e/servers/fetch.sh --all",
		e.Kind, strings.Join(e.Looked, ", "))
}

// A BusyError means that a server or a proxy did not answer in time, twice, on
// a machine that had too much other work. It is not a result of the test.
type BusyError struct {
	Kind Kind
	Err  error
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("set-up ran out of time, this machine is too busy to start %s: %v", e.Kind, e.Err)
}

func (e *BusyError) Unwrap() error { return e.Err }

// noAnswer returns the error of a start that was ended by ctx, a context of
// lateness.WithTimeout. last is the error of the last try.
func noAnswer(ctx context.Context, kind Kind, last error) error {
	var late *lateness.TimeoutError
	if errors.As(context.Cause(ctx), &late) && late.Busy() {
		return &BusyError{kind, late}
	}
	return fmt.Errorf("no answer, %w: %w", context.Cause(ctx), last)
}
