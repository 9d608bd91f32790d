package namedlock_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/memserver"
)

// A panickyContext panics in one of its methods, from a given call on.
type panickyContext struct {
	context.Context
	in   string
	left *int
}

func (p panickyContext) count(method string) {
	if p.in != method {
		return
	}
	if *p.left--; *p.left < 0 {
		panic("the context's " + method)
	}
}

func (p panickyContext) Done() <-chan struct{} { p.count("Done"); return p.Context.Done() }
func (p panickyContext) Err() error            { p.count("Err"); return p.Context.Err() }
func (p panickyContext) Value(key any) any     { p.count("Value"); return p.Context.Value(key) }
func (p panickyContext) Deadline() (time.Time, bool) {
	p.count("Deadline")
	return p.Context.Deadline()
}

// A context that panics, in whichever call, leaves no lock held, and Close
// returns.
func TestAContextThatPanics(t *testing.T) {
	for _, method := range []string{"Done", "Err", "Value", "Deadline"} {
		most := 12
		if method == "Done" {
			most = 1 // later ones are called by the context package, in a goroutine of its own
		}
		for after := range most {
			synctest.Test(t, func(t *testing.T) {
				db := memserver.New().Open()
				defer db.Close()
				locker, err := namedlock.Open(db)
				require.NoError(t, err)
				for what, call := range map[string]func(ctx context.Context){
					"WithLock":   func(ctx context.Context) { _ = locker.WithLock(ctx, "x", time.Second, nothing) },
					"WithLocks":  func(ctx context.Context) { _ = locker.WithLocks(ctx, []string{"x", "y"}, time.Second, nothing) },
					"WithLockTx": func(ctx context.Context) { _ = locker.WithLockTx(ctx, "x", time.Second, nil, nothingTx) },
					"WithSlot": func(ctx context.Context) {
						_ = locker.WithSlot(ctx, "x", 2, time.Second, func(context.Context, int) error { return nil })
					},
					"Acquire": func(ctx context.Context) {
						if lock, err := locker.Acquire(ctx, "x", time.Second); err == nil {
							_ = lock.Release()
						}
					},
				} {
					left := after
					inner, cancel := context.WithCancel(context.Background())
					func() {
						defer cancel()
						defer func() { _ = recover() }()
						call(panickyContext{inner, method, &left})
					}()
					for _, name := range []string{"x", "y", "x#gate", "x#0", "x#1"} {
						assert.NoError(t, locker.WithLock(ctx, name, time.Second, nothing), "%s of %s after %d: %s", method, what, after, name)
					}
					assert.Zero(t, locker.Stats().Held)
					assert.Zero(t, locker.Stats().Waiting)
				}
				bounded, cancel := context.WithTimeout(ctx, time.Minute)
				defer cancel()
				assert.NoError(t, locker.Shutdown(bounded), "%s after %d", method, after)
			})
		}
	}
}

func nothingTx(context.Context, *sql.Tx) error { return nil }

// The Released hook gets the outcome of the transaction. The error that it gets
// is not changed afterwards.
func TestTheReleasedHookSeesTheOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memserver.New()
		db := server.Open()
		defer db.Close()
		var seen namedlock.TxOutcome
		done := make(chan struct{})
		locker, err := namedlock.Open(db, namedlock.WithHooks(namedlock.Hooks{Released: func(_ context.Context, e namedlock.Event) {
			go func() {
				defer close(done)
				seen = e.Err.(*namedlock.Error).Tx
			}()
		}}))
		require.NoError(t, err)
		defer locker.Close()
		server.Once("RELEASE_LOCK(", &memserver.Reply{Drop: true})
		require.ErrorIs(t, locker.WithLockTx(ctx, "x", 0, nil, nothingTx), namedlock.ErrLost)
		<-done
		assert.Equal(t, namedlock.TxCommitted, seen)
	})
}

// The Released hook gets a loss under WithLocks even if fn does not return.
func TestWithLocksReportsALossAfterGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memserver.New()
		db := server.Open()
		defer db.Close()
		var e namedlock.Event
		locker, err := namedlock.Open(db, namedlock.WithHooks(namedlock.Hooks{Released: func(_ context.Context, got namedlock.Event) { e = got }}))
		require.NoError(t, err)
		defer locker.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = locker.WithLocks(ctx, []string{"x", "y"}, 0, func(c context.Context) error {
				<-c.Done()
				runtime.Goexit()
				return nil
			})
		}()
		time.Sleep(time.Second)
		server.Kill(1)
		<-done
		assert.True(t, e.Panicked)
		assert.ErrorIs(t, e.Err, namedlock.ErrLost)
	})
}

// A panickyConnector panics instead of connecting.
type panickyConnector struct{ driver.Connector }

func (panickyConnector) Connect(context.Context) (driver.Conn, error) { panic("no token") }

// A connector that panics makes the call fail, and not the process.
func TestAConnectorThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := sql.OpenDB(panickyConnector{memserver.New().Connector()})
		defer db.Close()
		locker, err := namedlock.Open(db)
		require.NoError(t, err)
		defer locker.Close()
		err = locker.WithLock(ctx, "x", time.Second, nothing)
		require.ErrorIs(t, err, namedlock.ErrUnavailable)
		require.ErrorContains(t, err, "no token")
		require.ErrorContains(t, locker.Check(ctx), "no token")
	})
}
