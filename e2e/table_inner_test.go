package e2e

import (
	"context"
	"errors"
	"testing"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An inner lock shares the session of the outer lock. If the connection fails
// at a statement of the inner lock, both locks are lost, and both callers are
// told.
func TestFaultTable_InnerLock(t *testing.T) {
	t.Parallel()
	statements := map[string]struct {
		text string
		runs bool // the code under the inner lock
	}{
		"GET_LOCK":     {locksql.GetLock, false},
		"RELEASE_LOCK": {locksql.ReleaseLock, true},
	}
	everyWay(t, func(t *testing.T, at setup) {
		for what, st := range statements {
			for _, f := range deadConnection {
				t.Run(what+": "+f.is, func(t *testing.T) {
					t.Parallel()
					on := onServer(at)
					c := &faultCase{t: t, on: on, fault: f, step: getText, l: on.lockerFor(t, getText), killer: on.foreign(t)}
					outer, inner := newName("outer"), newName("inner")
					lock, err := c.l.Acquire(t.Context(), outer, 0)
					require.NoError(t, err)
					c.l.spy.Once(st.text, f.make(c))
					ran := false
					err = c.l.WithLock(lock.Context(), inner, patience, func(context.Context) error {
						ran = true
						return nil
					})
					assert.Equal(t, st.runs, ran)
					if at.way == byOpen || st.runs {
						assert.ErrorIs(t, err, namedlock.ErrLost)
						// The result depends on which is detected first: the loss of the outer
						// lock, or the missing connection.
					} else {
						assert.True(t, errors.Is(err, namedlock.ErrLost) || errors.Is(err, namedlock.ErrUnavailable), "%v", err)
					}
					requireLost(t, lock.Context(), outer)
					require.ErrorIs(t, lock.Release(), namedlock.ErrLost)
					c.killer.lockSoon(outer)
					c.killer.lockSoon(inner)
					require.True(t, endsWithin(inBackground(c.l.Close), patience), "Close returns")
					assert.Equal(t, 1, c.l.spy.Closed())
				})
			}
		}
	})
}
