package recipes

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-namedlock/namedlock/locktest"
)

// leads runs Lead in the background until the test ends, or stop is called.
func leads(t *testing.T, l *Leadership, locks namedlock.LeadInterface) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = l.Lead(ctx, locks, "scheduler", func(ctx context.Context, _ *namedlock.Term) error {
			<-ctx.Done()
			return nil
		})
	}()
	return func() { cancel(); <-ended }
}

func TestLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here := locktest.New()
		defer here.Close()
		there := here.Peer()
		defer there.Close()
		var first, second Leadership
		assertLeads := func(want bool, l *Leadership) {
			t.Helper()
			_, _, ok := l.Term()
			assert.Equal(t, want, ok)
		}
		assertLeads(false, &first)
		defer leads(t, &first, here)()
		synctest.Wait()
		stopSecond := leads(t, &second, there)
		synctest.Wait()
		assertLeads(true, &first)
		assertLeads(false, &second)
		ctx, _, _ := first.Term()

		here.Lose("scheduler")
		time.Sleep(time.Second)
		require.ErrorIs(t, context.Cause(ctx), namedlock.ErrLost)
		assertLeads(false, &first)
		assertLeads(true, &second)

		stopSecond()
		assertLeads(false, &second)
		time.Sleep(time.Second)
		assertLeads(true, &first)
	})
}

// A process that was deposed after it had asked does not commit.
func TestLeadershipOnServers(t *testing.T) {
	for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			db := servers.ForTest(t, kind).Open(t)
			_, err := db.Exec("CREATE TABLE plans (text VARCHAR(9))")
			require.NoError(t, err)
			locker, err := namedlock.Open(db)
			require.NoError(t, err)
			defer locker.Close()
			var l Leadership
			defer leads(t, &l, locker)()
			await := func() (ctx context.Context, term *namedlock.Term) {
				t.Helper()
				require.Eventually(t, func() (ok bool) { ctx, term, ok = l.Term(); return ok }, time.Minute, time.Millisecond)
				return ctx, term
			}
			plan := func(ctx context.Context, term *namedlock.Term) error {
				return term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
					_, err := tx.ExecContext(ctx, "INSERT INTO plans VALUES ('planned')")
					return err
				})
			}
			ctx, term := await()
			require.NoError(t, plan(ctx, term), "code outside fn writes in the term")

			var id int64
			require.NoError(t, db.QueryRow("SELECT IS_USED_LOCK('scheduler')").Scan(&id))
			_, err = db.Exec(fmt.Sprintf("KILL %d", id))
			require.NoError(t, err)
			require.ErrorIs(t, plan(context.WithoutCancel(ctx), term), namedlock.ErrLost)
			<-ctx.Done()
			require.NoError(t, plan(await()), "the next term")
			plans := 0
			require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM plans").Scan(&plans))
			assert.Equal(t, 2, plans)
		})
	}
}

type checker []error

func (c *checker) Check(context.Context) error {
	err := (*c)[0]
	*c = (*c)[1:]
	return err
}

func TestStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("away")
		began, reported := time.Now(), 0
		require.NoError(t, Started(t.Context(), &checker{away, away, nil}, time.Second, func(err error) {
			assert.Equal(t, away, err)
			reported++
		}))
		assert.Equal(t, 2, reported)
		assert.Equal(t, 2*time.Second, time.Since(began))
		ctx, cancel := context.WithCancel(t.Context())
		require.ErrorIs(t, Started(ctx, &checker{away}, time.Second, func(error) { cancel() }), context.Canceled)
	})
}

// The probe succeeds while the locks' server is away, and not while the
// service's own is.
func TestReady(t *testing.T) {
	locks := locktest.New()
	defer locks.Close()
	server := servers.ForTest(t, servers.MariaDB)
	db := server.Open(t)
	var started atomic.Bool
	probe := func() int {
		w := httptest.NewRecorder()
		Ready(&started, db)(w, httptest.NewRequest(http.MethodGet, "/ready", nil))
		return w.Code
	}
	assert.Equal(t, http.StatusServiceUnavailable, probe(), "before the start")
	require.NoError(t, Started(t.Context(), locks, time.Second, func(error) {}))
	started.Store(true)
	locks.Fail(errors.New("away"))
	require.Error(t, locks.Check(t.Context()))
	assert.Equal(t, http.StatusOK, probe())
	db.Close()
	assert.Equal(t, http.StatusServiceUnavailable, probe())
}
