package adapters

import (
	"sync"
	"testing"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/gocronnamedlock"

	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
)

// ran records which schedulers ran the job, and how often.
type ran struct {
	mu     sync.Mutex
	by     map[int]int
	inside int
	twice  bool
}

func (r *ran) count(who int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by[who]
}

func (r *ran) job(who int) func() {
	return func() {
		r.mu.Lock()
		r.by[who]++
		r.inside++
		r.twice = r.twice || r.inside > 1
		r.mu.Unlock()
		time.Sleep(5 * time.Millisecond) // the work of the job
		r.mu.Lock()
		r.inside--
		r.mu.Unlock()
	}
}

// schedule makes a scheduler with a Locker of its own run the job, with an
// option that is made from the Locker.
func schedule(t *testing.T, s server, job func(), option func(*namedlock.Locker) gocron.SchedulerOption) {
	t.Helper()
	locker, err := namedlock.Open(s.open(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = locker.Close() })
	scheduler, err := gocron.NewScheduler(option(locker))
	require.NoError(t, err)
	t.Cleanup(func() { _ = scheduler.Shutdown() })
	_, err = scheduler.NewJob(gocron.DurationJob(20*time.Millisecond), gocron.NewTask(job), gocron.WithName("job"))
	require.NoError(t, err)
	scheduler.Start()
}

// One process schedules. When it loses its session, another process schedules.
func TestGocron_Elector(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s server) {
		r := &ran{by: map[int]int{}}
		var electors []*gocronnamedlock.Elector
		for who := range 3 {
			schedule(t, s, r.job(who), func(l *namedlock.Locker) gocron.SchedulerOption {
				e := gocronnamedlock.NewElector(l, "scheduler")
				t.Cleanup(func() { _ = e.Close() })
				electors = append(electors, e)
				return gocron.WithDistributedElector(e)
			})
		}
		leader := func() int {
			for who, e := range electors {
				if e.IsLeader(t.Context()) == nil {
					return who
				}
			}
			return -1
		}
		require.Eventually(t, func() bool { return leader() >= 0 && r.count(leader()) > 5 }, 20*time.Second, time.Millisecond, "an elector leads, and its scheduler runs jobs")
		first := leader()
		for who := range electors {
			assert.Equal(t, who == first, r.count(who) > 0, "only the leader runs jobs")
		}
		db := s.open(t)
		require.NoError(t, locksql.KillHolder(t.Context(), db, "scheduler"))
		require.Eventually(t, func() bool { next := leader(); return next >= 0 && next != first && r.count(next) > 5 }, 20*time.Second, time.Millisecond, "another leads")
	})
}

// With a lock for each run of a job, two runs never overlap.
func TestGocron_Locker(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, s server) {
		r := &ran{by: map[int]int{}}
		for who := range 3 {
			schedule(t, s, r.job(who), func(l *namedlock.Locker) gocron.SchedulerOption {
				return gocron.WithDistributedLocker(gocronnamedlock.NewLocker(l, 0))
			})
		}
		require.Eventually(t, func() bool { return r.count(0)+r.count(1)+r.count(2) > 30 }, 20*time.Second, time.Millisecond)
		r.mu.Lock()
		defer r.mu.Unlock()
		assert.False(t, r.twice, "twice at once")
	})
}
