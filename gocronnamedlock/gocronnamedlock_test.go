package gocronnamedlock_test

import (
	"context"
	"database/sql"
	"log"
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
