package otelnamedlock

import (
	"errors"
	"fmt"
	"testing"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
)

// Every sentinel has a name of its own, also where it is wrapped.
func TestOutcomes(t *testing.T) {
	for err, want := range map[error]string{
		namedlock.ErrTimeout:       "timeout",
		namedlock.ErrNoSession:     "no_session",
		namedlock.ErrReentrant:     "reentrant",
		namedlock.ErrInTransaction: "in_transaction",
		namedlock.ErrDeadlock:      "deadlock",
		namedlock.ErrInterrupted:   "interrupted",
		namedlock.ErrUnavailable:   "unavailable",
		namedlock.ErrUnsupported:   "unsupported",
		errors.New("another"):      "error",
	} {
		assert.Equal(t, want, outcome(fmt.Errorf("wrapped: %w", &namedlock.Error{Op: "acquire", Err: err})))
	}
}
