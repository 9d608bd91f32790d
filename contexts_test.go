package namedlock_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// A detached context hides the end of its context, but not the deadline, as
// such types in some programs do.
type detached struct{ context.Context }

func (detached) Done() <-chan struct{} { return nil }
func (detached) Err() error            { return nil }

// A wait goes on after a deadline that does not end its context, without a
// statement every millisecond.
func TestADeadlineThatDoesNotEndTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := memserver.New()
		db := srv.Open()
		defer db.Close()
		locker, err := namedlock.Open(db)
		require.NoError(t, err)
		defer locker.Close()
		srv.Lock("x")
		brief, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		began := time.Now()
		err = locker.WithLock(detached{brief}, "x", time.Minute, nothing)
		require.ErrorIs(t, err, namedlock.ErrTimeout)
		assert.Equal(t, time.Minute, time.Since(began))
		assert.Less(t, len(srv.Sent("GET_LOCK(")), 100)
	})
}
