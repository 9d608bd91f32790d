package cron

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-co-op/gocron/v2"
	driver "github.com/go-sql-driver/mysql"
	"github.com/golang-migrate/migrate/v4"
	migratemysql "github.com/golang-migrate/migrate/v4/database/mysql"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jonboulle/clockwork"
	"github.com/robfig/cron/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-namedlock/namedlock/gocronnamedlock"
)

func TestMain(m *testing.M) {
	// The driver would log every session that is killed.
	_ = driver.SetLogger(&driver.NopLogger{})
	m.Run()
}

const patience = time.Minute

// behind is how much the clocks of the replicas are behind the first replica's
// clock.
var behind = []time.Duration{0, 150 * time.Millisecond, 400 * time.Millisecond}

func onEachServer(t *testing.T, test func(t *testing.T, server *servers.Server)) {
	t.Parallel()
	for _, kind := range []servers.Kind{servers.MariaDB, servers.MySQL} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server := servers.ForTest(t, kind)
			_, err := server.Open(t).ExecContext(t.Context(), createTicks)
			require.NoError(t, err)
			test(t, server)
		})
	}
}

func locker(t *testing.T, server *servers.Server) *namedlock.Locker {
	t.Helper()
	l, err := namedlock.Open(server.Open(t))
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// A book has the runs of a job and the attempts at it, by tick.
type book struct {
	every time.Duration
	mu    sync.Mutex
	ticks map[time.Time]*tick
}

// A tick has the events of one period.
type tick struct {
	began    time.Time
	attempts int
	runs     int
	first    time.Time // when the job first ran
	last     time.Time // when the last attempt started
	ended    time.Time // when the last attempt ended
}

// inTime reports whether the replicas were done before the next tick. If they
// were not, the machine was too busy for a verdict.
func (k tick) inTime(every time.Duration) bool { return k.ended.Sub(k.began) < every }

func newBook(every time.Duration) *book { return &book{every: every, ticks: make(map[time.Time]*tick)} }

func (b *book) change(began time.Time, change func(k *tick)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := began.Truncate(b.every)
	if b.ticks[at] == nil {
		b.ticks[at] = &tick{began: at}
	}
	change(b.ticks[at])
}

// attempt is called by a replica when its clock reaches a tick. It passes the
// job to try, which may run it. The job is short, as jobs are that run several
// times.
func (b *book) attempt(try func(job func())) {
	began := time.Now()
	try(func() {
		b.change(began, func(k *tick) {
			if k.runs++; k.first.IsZero() {
				k.first = time.Now()
			}
		})
	})
	b.change(began, func(k *tick) {
		k.attempts++
		if k.ended = time.Now(); began.After(k.last) {
			k.last = began
		}
	})
}

// complete returns the ticks that all replicas have finished.
func (b *book) complete() (ticks []tick) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.ticks {
		if k.attempts == len(behind) {
			ticks = append(ticks, *k)
		}
	}
	return ticks
}

// await returns the complete ticks that count, when there are at least n.
func (b *book) await(t *testing.T, n int, counts func(k tick) bool) (ticks []tick) {
	t.Helper()
	require.Eventually(t, func() bool {
		ticks = nil
		for _, k := range b.complete() {
			if counts(k) {
				ticks = append(ticks, k)
			}
		}
		return len(ticks) >= n
	}, patience, 10*time.Millisecond)
	return ticks
}

// A ticking is a schedule on a clock that is behind.
type ticking struct{ every, behind time.Duration }

func (s ticking) Next(now time.Time) time.Time {
	return now.Add(-s.behind).Truncate(s.every).Add(s.every + s.behind)
}

// replicas run the book's job with robfig/cron. Each replica has its own clock
// and its own wrapper.
func replicas(t *testing.T, b *book, wrapper func() cron.JobWrapper) {
	t.Helper()
	for _, by := range behind {
		c, wrap := cron.New(), wrapper()
		c.Schedule(ticking{b.every, by}, cron.FuncJob(func() {
			b.attempt(func(job func()) { wrap(cron.FuncJob(job)).Run() })
		}))
		c.Start()
		t.Cleanup(func() { <-c.Stop().Done() })
	}
}

func fails(t *testing.T) func(error) {
	return func(err error) { assert.NoError(t, err) }
}

// If the lock is held only while the job runs, every replica runs the job.
func TestWithoutAtLeast(t *testing.T) {
	onEachServer(t, func(t *testing.T, server *servers.Server) {
		b := newBook(time.Second)
		replicas(t, b, func() cron.JobWrapper { return oneAtATime(locker(t, server), "job", 0, fails(t)) })
		b.await(t, 2, func(k tick) bool { return k.runs == len(behind) })
	})
}

func TestAtLeast(t *testing.T) {
	onEachServer(t, func(t *testing.T, server *servers.Server) {
		const atLeast = time.Second
		b := newBook(2 * time.Second)
		replicas(t, b, func() cron.JobWrapper { return oneAtATime(locker(t, server), "job", atLeast, fails(t)) })
		for _, k := range b.await(t, 3, func(k tick) bool { return k.inTime(b.every) && k.last.Sub(k.first) < atLeast }) {
			assert.Equal(t, 1, k.runs)
		}
	})
}

func TestOncePerPeriod(t *testing.T) {
	onEachServer(t, func(t *testing.T, server *servers.Server) {
		b := newBook(2 * time.Second)
		replicas(t, b, func() cron.JobWrapper {
			return oncePerPeriod(locker(t, server), "job", b.every, patience, fails(t))
		})
		for _, k := range b.await(t, 3, func(k tick) bool { return k.inTime(b.every) }) {
			assert.Equal(t, 1, k.runs)
		}
	})
}

// A lateClock is a clock for gocron that is behind.
type lateClock struct {
	clockwork.Clock
	by time.Duration
}

func (c lateClock) Now() time.Time                  { return c.Clock.Now().Add(-c.by) }
func (c lateClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }
func (c lateClock) Until(t time.Time) time.Duration { return t.Sub(c.Now()) }

// The task of the page runs in gocron.
func TestGocron(t *testing.T) {
	onEachServer(t, func(t *testing.T, server *servers.Server) {
		b := newBook(2 * time.Second)
		for _, by := range behind {
			locks := locker(t, server)
			scheduler, err := gocron.NewScheduler(gocron.WithClock(lateClock{clockwork.NewRealClock(), by}), gocron.WithLocation(time.UTC))
			require.NoError(t, err)
			t.Cleanup(func() { _ = scheduler.Shutdown() })
			_, err = scheduler.NewJob(gocron.CronJob("*/2 * * * * *", true), gocron.NewTask(func(ctx context.Context) {
				b.attempt(func(job func()) {
					assert.NoError(t, once(ctx, locks, "job", time.Now().Truncate(b.every), patience, func(context.Context, *sql.Tx) error {
						job()
						return nil
					}))
				})
			}))
			require.NoError(t, err)
			scheduler.Start()
		}
		for _, k := range b.await(t, 3, func(k tick) bool { return k.inTime(b.every) }) {
			assert.Equal(t, 1, k.runs)
		}
	})
}

func kill(t *testing.T, db *sql.DB, name string) {
	t.Helper()
	require.NoError(t, locksql.KillHolder(t.Context(), db, name))
}

// After a KILL within atLeast another replica can acquire the lock for the same
// tick.
func TestGocron_KillWithinAtLeast(t *testing.T) {
	onEachServer(t, func(t *testing.T, server *servers.Server) {
		db := server.Open(t)
		for range behind {
			lock, err := gocronnamedlock.NewLocker(locker(t, server), time.Hour).Lock(t.Context(), "job")
			require.NoError(t, err, "this replica would run the job")
			kill(t, db, "job")
			require.ErrorIs(t, lock.Unlock(t.Context()), namedlock.ErrLost)
		}
	})
}

// A KILL after the job has run changes nothing, since the record is committed.
// After a KILL or an error before the commit, another replica runs the job.
func TestOnce_Kill(t *testing.T) {
	onEachServer(t, func(t *testing.T, server *servers.Server) {
		db, at := server.Open(t), time.Now()
		_, err := db.ExecContext(t.Context(), "CREATE TABLE reports (text VARCHAR(9))")
		require.NoError(t, err)
		runs := 0
		replica := func(then func(ctx context.Context) error) error {
			return once(t.Context(), locker(t, server), "job", at, patience, func(ctx context.Context, tx *sql.Tx) error {
				runs++
				_, err := tx.ExecContext(ctx, "INSERT INTO reports VALUES ('written')")
				require.NoError(t, err)
				return then(ctx)
			})
		}
		require.ErrorIs(t, replica(func(ctx context.Context) error {
			kill(t, db, "job")
			<-ctx.Done()
			return nil
		}), namedlock.ErrLost)
		mine := errors.New("mine")
		require.ErrorIs(t, replica(func(context.Context) error { return mine }), mine)
		for range behind {
			require.NoError(t, replica(func(context.Context) error { return nil }))
		}
		assert.Equal(t, 3, runs, "one is lost, one fails, one runs")
		reports := 0
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM reports").Scan(&reports))
		assert.Equal(t, 1, reports)
	})
}

// migrator returns a golang-migrate instance with one migration that takes 12
// s.
func migrator(t *testing.T, server *servers.Server) *migrate.Migrate {
	t.Helper()
	db := server.Open(t, "multiStatements=true")
	instance, err := migratemysql.WithInstance(db, &migratemysql.Config{})
	require.NoError(t, err)
	files, err := iofs.New(fstest.MapFS{
		"migrations/1_slow.up.sql": {Data: []byte("DO SLEEP(12); CREATE TABLE migrated (id INT);")},
	}, "migrations")
	require.NoError(t, err)
	m, err := migrate.NewWithInstance("iofs", files, "mysql", instance)
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// ups runs up in three replicas at the same time, and returns the errors.
func ups(t *testing.T, server *servers.Server, up func(m *migrate.Migrate) error) (failed []error) {
	t.Helper()
	results := make(chan error)
	var ready []*migrate.Migrate
	for range behind {
		ready = append(ready, migrator(t, server))
	}
	for _, m := range ready {
		go func() { results <- up(m) }()
	}
	for range behind {
		if err := <-results; err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

func TestMigrate_ItsOwnLock(t *testing.T) {
	onEachServer(t, func(t *testing.T, server *servers.Server) {
		failed := ups(t, server, (*migrate.Migrate).Up)
		assert.Len(t, failed, 2, "they have waited for 10 s")
		for _, err := range failed {
			assert.EqualError(t, err, "can't acquire lock")
		}
	})
}

func TestMigrate_WithLock(t *testing.T) {
	onEachServer(t, func(t *testing.T, server *servers.Server) {
		assert.Empty(t, ups(t, server, func(m *migrate.Migrate) error { return migrateUp(t.Context(), locker(t, server), m) }))
	})
}

// Each block of Go on the pages is code of this package, which the tests above
// test.
func TestPages(t *testing.T) {
	source, err := os.ReadFile("cron.go")
	require.NoError(t, err)
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	for page, want := range map[string]int{"../../docs/CRON.md": 3, "../../docs/MIGRATING.md": 1} {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```").FindAllStringSubmatch(string(text), -1)
		tested := 0
		for _, block := range blocks {
			if strings.HasPrefix(block[1], "func ") || strings.HasPrefix(block[1], "//") {
				assert.Contains(t, string(source), block[1], page)
				tested++
			}
		}
		assert.Equal(t, want, tested, page)
		for _, version := range regexp.MustCompile("`(github\\S+)` (v[0-9]\\S+[0-9])").FindAllStringSubmatch(string(text), -1) {
			assert.Contains(t, string(mod), "\t"+version[1]+" "+version[2]+"\n", page)
		}
	}
}
