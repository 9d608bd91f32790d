package main

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-namedlock/namedlock/locktest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOnServers(t *testing.T) {
	for _, kind := range []servers.Kind{servers.MySQL, servers.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server := servers.ForTest(t, kind)
			t.Run("three machines", func(t *testing.T) { testThreeMachines(t, server) })
			t.Run("daily", func(t *testing.T) { testDaily(t, server) })
			t.Run("at once", func(t *testing.T) { testAtOnce(t, server) })
		})
	}
}

func testThreeMachines(t *testing.T, server *servers.Server) {
	var stdout strings.Builder
	require.NoError(t, threeMachines(t.Context(), server.DSN(), "2026-11-22", &stdout))
	assert.Equal(t, "writing the report of 2026-11-22\n"+done+"\n"+already+"\n"+already+"\n", stdout.String())
}

func testDaily(t *testing.T, server *servers.Server) {
	db := server.Open(t)
	require.NoError(t, createRuns(t.Context(), db))
	require.NoError(t, createRuns(t.Context(), db), "again")
	_, err := db.Exec("CREATE TABLE reports (text VARCHAR(9))")
	require.NoError(t, err)
	locks := locktest.New()
	defer locks.Close()
	locks.TxFrom(db)

	ran := 0
	job := func(fails error) (string, error) {
		return daily(t.Context(), locks, "report", "2026-11-22", 0, func(ctx context.Context, tx *sql.Tx) error {
			locktest.AssertHeld(t, ctx, locks, "report")
			ran++
			_, err := tx.ExecContext(ctx, "INSERT INTO reports VALUES ('written')")
			return errors.Join(err, fails)
		})
	}
	release := locks.HoldElsewhere("report")
	what, err := job(nil)
	require.NoError(t, err)
	assert.Equal(t, busy, what)
	assert.Zero(t, ran)
	release()

	locks.FailNextAcquire(namedlock.ErrNoSession)
	_, err = job(nil)
	require.ErrorIs(t, err, namedlock.ErrNoSession, "perhaps no machine is at it")
	assert.Zero(t, ran)

	failure := errors.New("the printer is on fire")
	_, err = job(failure)
	require.ErrorIs(t, err, failure)
	what, err = job(nil)
	require.NoError(t, err)
	assert.Equal(t, done, what, "the job is tried again after a failure")
	what, err = job(nil)
	require.NoError(t, err)
	assert.Equal(t, already, what)
	assert.Equal(t, 2, ran)
	reports := 0
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM reports").Scan(&reports))
	assert.Equal(t, 1, reports, "what the failed run wrote is rolled back")
}

// Machines that start at once: the first fails, the second does the job, and
// the others return after it has committed.
func testAtOnce(t *testing.T, server *servers.Server) {
	db := server.Open(t)
	require.NoError(t, createRuns(t.Context(), db))
	locker, err := namedlock.Open(db)
	require.NoError(t, err)
	defer locker.Close()

	var runs atomic.Int32
	failure := errors.New("the printer is on fire")
	results := make(chan string)
	const machines = 5
	for range machines {
		go func() {
			what, err := daily(t.Context(), locker, "report", "2026-11-23", time.Minute, func(context.Context, *sql.Tx) error {
				if runs.Add(1) == 1 {
					return failure
				}
				return nil
			})
			if err != nil {
				what = err.Error()
			}
			results <- what
		}()
	}
	count := map[string]int{}
	for range machines {
		count[<-results]++
	}
	assert.Equal(t, map[string]int{failure.Error(): 1, done: 1, already: machines - 2}, count)
	assert.EqualValues(t, 2, runs.Load())
}
