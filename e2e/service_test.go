package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shutDown makes a Shutdown of l end by its ctx. It returns the time from the
// end of ctx to the return of Shutdown.
func shutDown(t *testing.T, l *locker, names ...string) (late time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	ended := make(chan time.Time, 1)
	context.AfterFunc(ctx, func() { ended <- time.Now() })
	err := l.Shutdown(ctx)
	late = time.Since(receive(t, ended, "the deadline"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	for _, name := range names {
		require.ErrorContains(t, err, `"`+name+`"`)
	}
	return late
}

// Shutdown ends with its ctx, whatever the state of the network. If the server
// can detect the end of the connections, the locks are free for other sessions.
// The code under the locks is told.
//
// No other test runs at the same time.
func TestPromise40_ShutdownIsBounded(t *testing.T) {
	everyWay(t, func(t *testing.T, at setup) {
		for _, silent := range []bool{false, true} {
			network, f, one, another := at.network(t), at.foreign(t), newName("deploy"), newName("deploy")
			l := at.lockerBehind(t, network, nil)
			c, ctx := hold(t, t.Context(), l, one)
			_, ctx2 := hold(t, t.Context(), l, another)
			f2 := at.foreign(t)
			wanted := newName("wanted")
			f2.lock(wanted)
			waiting := begin(t, t.Context(), l, wanted, namedlock.Forever)
			waiting.queued(t)
			if silent {
				network.Silence()
			}
			prompt(t, 100*time.Millisecond, "the end of Shutdown", func() time.Duration { return shutDown(t, l, one, another) })
			require.ErrorIs(t, waiting.err(t), namedlock.ErrClosed)
			requireLost(t, ctx, one)
			requireLost(t, ctx2, another)
			if !silent {
				f.lockSoon(one)
				f.lockSoon(another)
			}
			network.Heal()
			c.requireLossReported(t, one)
		}
	})
}

// Check reports errors at start-up that the first lock would report.
func TestPromise41_CheckSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		require.NoError(t, at.locker(t).Check(t.Context()))
		l, f, name := at.locker(t), at.foreign(t), newName("check")
		hold(t, t.Context(), l, name)
		require.NoError(t, l.Check(t.Context()))
		require.NotZero(t, f.holder(name), "it costs no lock")
	})
	onEachServer(t, func(t *testing.T, srv *server) {
		t.Run("wrong password", func(t *testing.T) {
			db := srv.openAs(t, newUser(), nil)
			user := db.QueryRowContext(t.Context(), "SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)")
			var name string
			require.NoError(t, user.Scan(&name))
			_, err := srv.admin.ExecContext(t.Context(), "ALTER USER "+name+" IDENTIFIED BY 'another'")
			require.NoError(t, err)
			db.SetMaxIdleConns(-1)
			err = setup{srv, byOpen}.lockerOn(t, db).Check(t.Context())
			require.ErrorIs(t, err, namedlock.ErrUnavailable)
			require.ErrorContains(t, err, "Access denied")
		})
		t.Run("no answer", func(t *testing.T) {
			network := srv.network(t)
			l := setup{srv, byOpen}.lockerBehind(t, network, nil)
			network.Silence()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			require.ErrorIs(t, l.Check(ctx), context.DeadlineExceeded)
			network.Heal()
		})
	})
}

// A driver that hides its socket is not an error. The Locker logs it once.
func TestPromise41_CheckWarnsOfALateLoss(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		wrapped, _ := srv.openWrapped(t)
		for what, db := range map[string]*sql.DB{"another driver": wrapped, "no look allowed": srv.open(t, "checkConnLiveness=false")} {
			var log bytes.Buffer
			l, err := namedlock.Open(db, namedlock.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			require.NoError(t, err)
			for range 3 {
				require.NoError(t, l.Check(t.Context()))
			}
			require.NoError(t, l.Close())
			assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("noticed late, by keep-alive only")), "%s: %s", what, &log)
		}
	})
}

// The locks of a read-only server exclude no client of the primary.
func TestPromise41_CheckKnowsAReplica(t *testing.T) {
	t.Parallel()
	onPrivateServers(t, func(t *testing.T, srv *server) {
		srv.mustRun(t, "SET GLOBAL read_only = ON")
		for _, way := range []string{byOpen, byNew} {
			require.ErrorIs(t, setup{srv, way}.locker(t).Check(t.Context()), namedlock.ErrUnsupported)
		}
	})
}
