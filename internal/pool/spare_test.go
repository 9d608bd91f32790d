package pool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/memserver"
)

// requireNoSpare asks for a spare session until the pool opens one, if it may.
func (b *bubble) requireNoSpare(s *Session) {
	b.Helper()
	before := sessions(b.pool)
	for range missesBeforeOpening {
		require.Nil(b, b.pool.TakeSpare(s))
		if sessions(b.pool) > before {
			break // the next call may find it open
		}
	}
	synctest.Wait()
}

// An idle session without locks is a spare one. One is opened only after so
// many calls that found none.
func TestSpare(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.held("a")
		for range missesBeforeOpening {
			require.Equal(b, 1, sessions(b.pool))
			require.Nil(b, b.pool.TakeSpare(s))
			synctest.Wait()
		}
		require.Equal(b, 2, sessions(b.pool))
		spare := b.pool.TakeSpare(s)
		require.NotNil(b, spare)
		b.requireNoSpare(s)
		require.Equal(b, 2, sessions(b.pool), "the spare one is busy for a moment")
		require.Positive(b, b.pool.BeginWait(spare, 0, 0))
		b.requireNoSpare(s)
		require.Equal(b, 3, sessions(b.pool), "its wait may last")
		b.pool.EndWait(spare)
		b.pool.Put(spare)
		b.release(s, h)
	})
}

// An idle session that may not wait is not a spare one, and none is opened
// beyond the cap.
func TestSpare_TheCapIsKept(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxSessions = 1 }, func(b *bubble) {
		s := b.take(Request{})
		b.pool.Put(s)
		require.Nil(b, b.pool.TakeSpare(nil))
		h := b.lock(b.take(Request{}), "a")
		b.requireNoSpare(s)
		assert.Equal(b, 1, sessions(b.pool))
		b.release(s, h)
	})
}

// No spare session is opened on the connection that the pools of a db leave it.
func TestSpare_LeavesTheDBAConnection(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		b.db.SetMaxOpenConns(3)
		other := NewPool(b.db, config())
		defer other.Close()
		theirs, err := other.Take(Request{Caller: anybody()})
		require.NoError(b, err)
		s, h := b.held("a")
		b.requireNoSpare(s)
		assert.Equal(b, 1, sessions(b.pool))
		other.Put(theirs)
		b.release(s, h)
	})
}

// A server that has no connection for a spare session is not asked for one at
// each lock.
func TestSpare_IsRefused(t *testing.T) {
	for what, number := range map[string]uint16{"full": 1040, "denied": 1045} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, nil, func(b *bubble) {
				s, h := b.held("a")
				b.server.ScriptTexts(map[string]*memserver.Reply{"VERSION()": {Number: number}})
				sent := func() int { return len(b.server.Sent("VERSION()")) }
				begun := sent()
				b.requireNoSpare(s)
				require.Greater(b, sent(), begun, "the server was asked")
				b.server.Script(nil)
				asked := sent()
				b.requireNoSpare(s)
				require.Equal(b, asked, sent())
				require.Equal(b, 1, sessions(b.pool))
				time.Sleep(fullTime)
				b.requireNoSpare(s)
				require.Equal(b, 2, sessions(b.pool))
				b.release(s, h)
			})
		})
	}
}

// slowObserver holds up each caller that has opened a session.
type slowObserver struct{ opened, goOn chan struct{} }

func (o slowObserver) SessionOpened(time.Duration, error) { close(o.opened); <-o.goOn }
func (o slowObserver) SessionDiscarded(error)             {}

// A spare session that is opened while the pool is being closed also goes back.
func TestSpare_RacesClose(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		o := slowObserver{make(chan struct{}), make(chan struct{})}
		b.pool.Observer = o
		for range missesBeforeOpening {
			require.Nil(b, b.pool.TakeSpare(nil))
		}
		<-o.opened
		closed := begin(func() bool { b.pool.Close(); return true })
		close(o.goOn)
		<-closed
		assert.Zero(b, b.db.Stats().InUse)
		b.pool = NewPool(b.db, config())
	})
}

// A spare session that could not be opened keeps no other caller from opening
// one: the server is not full.
func TestSpare_AFailureIsNoFullServer(t *testing.T) {
	inBubble(t, nil, func(b *bubble) {
		s, h := b.held("a")
		b.server.ScriptTexts(map[string]*memserver.Reply{"VERSION()": {Number: 1045}})
		b.requireNoSpare(s)
		b.server.Script(nil)
		c, begun := anybody(), time.Now()
		own := b.take(Request{Own: true, Caller: c})
		assert.Zero(b, time.Since(begun))
		assert.Zero(b, c.exhausted, "a caller that tries once fails then")
		b.pool.Put(own)
		b.release(s, h)
	})
}
