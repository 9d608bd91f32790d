package gocronnamedlock_test

import (
	"context"
	"database/sql"
	"log"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/gocronnamedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

var ctx = context.Background()

// A scheduler whose jobs run in one process of many. For tests on real servers
// see e2e/adapters.
func Example() {
	db, err := sql.Open("mysql", "app:secret@tcp(db.internal:3306)/app")
	if err != nil {
		log.Fatal(err)
	}
	locker, err := namedlock.Open(db)
	if err != nil {
		log.Fatal(err)
	}
	defer locker.Close()
	elector := gocronnamedlock.NewElector(locker, "scheduler")
	defer elector.Close()
	scheduler, err := gocron.NewScheduler(gocron.WithDistributedElector(elector))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = scheduler.Shutdown() }()
	if _, err := scheduler.NewJob(gocron.DurationJob(time.Minute), gocron.NewTask(func() { log.Print("once a minute, in one process") })); err != nil {
		log.Fatal(err)
	}
	scheduler.Start()
}

func TestElector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := locktest.New()
		defer one.Close()
		two := one.Peer()
		defer two.Close()
		first := gocronnamedlock.NewElector(one, "scheduler")
		synctest.Wait()
		second := gocronnamedlock.NewElector(two, "scheduler")
		synctest.Wait()
		require.NoError(t, first.IsLeader(ctx))
		require.ErrorIs(t, second.IsLeader(ctx), gocronnamedlock.ErrNotLeader)

		one.Lose("scheduler")
		time.Sleep(time.Second)
		require.ErrorIs(t, first.IsLeader(ctx), gocronnamedlock.ErrNotLeader)
		require.NoError(t, second.IsLeader(ctx))
		require.NoError(t, second.Close())
		synctest.Wait()
		require.NoError(t, first.IsLeader(ctx))
		require.NoError(t, first.Close())
		require.ErrorIs(t, first.IsLeader(ctx), gocronnamedlock.ErrNotLeader)

		var zero gocronnamedlock.Elector
		require.ErrorIs(t, zero.IsLeader(ctx), gocronnamedlock.ErrNotLeader)
		require.NoError(t, zero.Close())
		never := gocronnamedlock.NewElector(one, "")
		synctest.Wait()
		require.ErrorIs(t, never.IsLeader(ctx), namedlock.ErrInvalidName)
		require.ErrorIs(t, never.Close(), namedlock.ErrInvalidName)
	})
}

func TestLocker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := locktest.New()
		defer one.Close()
		two := one.Peer()
		defer two.Close()
		here, there := gocronnamedlock.NewLocker(one, time.Second), gocronnamedlock.NewLocker(two, time.Second)
		lock, err := here.Lock(ctx, "Nightly Report")
		require.NoError(t, err)
		_, err = there.Lock(ctx, "Nightly Report")
		require.ErrorIs(t, err, namedlock.ErrTimeout)
		began := time.Now()
		require.NoError(t, lock.Unlock(ctx))
		assert.Equal(t, time.Second, time.Since(began), "a clock that is late by less than that finds it taken")
		lock, err = there.Lock(ctx, "Nightly Report")
		require.NoError(t, err)
		two.Lose(namedlock.SafeName("Nightly Report"))
		require.ErrorIs(t, lock.Unlock(ctx), namedlock.ErrLost)
	})
}

// Two processes, of which one has a clock that is late, run a job once. gocron
// ends a job's context after its last run, and when it is shut down. The lock
// is kept for atLeast nevertheless.
func TestLocker_LastRun(t *testing.T) {
	for what, test := range map[string]struct {
		job      func(start time.Time) gocron.JobDefinition
		opts     []gocron.JobOption
		shutDown bool
	}{
		"a limited job": {
			func(time.Time) gocron.JobDefinition { return gocron.DurationJob(10 * time.Second) },
			[]gocron.JobOption{gocron.WithLimitedRuns(1)}, false,
		},
		"a one-time job": {
			func(start time.Time) gocron.JobDefinition {
				return gocron.OneTimeJob(gocron.OneTimeJobStartDateTime(start.Add(10 * time.Second)))
			}, nil, false,
		},
		"a scheduler that is shut down": {
			func(time.Time) gocron.JobDefinition { return gocron.DurationJob(10 * time.Second) }, nil, true,
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one := locktest.New()
				defer one.Close()
				two := one.Peer()
				defer two.Close()
				var runs atomic.Int32 // the two runs are 400 ms apart
				for _, locks := range []*locktest.Locker{one, two} {
					scheduler, err := gocron.NewScheduler(gocron.WithDistributedLocker(gocronnamedlock.NewLocker(locks, time.Second)))
					require.NoError(t, err)
					defer func() { _ = scheduler.Shutdown() }()
					_, err = scheduler.NewJob(test.job(time.Now()), gocron.NewTask(func() { runs.Add(1) }), append(test.opts, gocron.WithName("report"))...)
					require.NoError(t, err)
					scheduler.Start()
					if test.shutDown && locks == one {
						time.AfterFunc(10*time.Second+100*time.Millisecond, func() { _ = scheduler.Shutdown() })
					}
					time.Sleep(400 * time.Millisecond)
				}
				time.Sleep(11 * time.Second)
				assert.EqualValues(t, 1, runs.Load())
				assert.Empty(t, one.HeldNames())
			})
		})
	}
}
