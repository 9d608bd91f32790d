package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
)

// Processes acquire locks in opposite order. The server detects the deadlock,
// one process gives way, and the other processes continue. The outer locks stay
// held until their own release.
func TestPromise08_DeadlockBetweenLockers(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for what, parties := range map[string]int{"two": 2, "three": 3} {
			t.Run(what, func(t *testing.T) {
				f := at.foreign(t)
				names, sessions := make([]string, parties), make([]int64, parties)
				outer, inner := make([]*call, parties), make([]*call, parties)
				lockers, ctxs := make([]*locker, parties), make([]context.Context, parties)
				for i := range parties {
					names[i], lockers[i] = newName("process"), at.locker(t)
					outer[i], ctxs[i] = hold(t, t.Context(), lockers[i], names[i])
					sessions[i] = f.holder(names[i])
				}
				ended := make(chan int, parties) // numbers of the processes that give way
				for i := range parties {
					inner[i] = begin(t, ctxs[i], lockers[i], names[(i+1)%parties], namedlock.Forever)
					if i < parties-1 {
						at.awaitWaiter(t, names[i+1])
					}
				}
				for i, c := range inner {
					go func() {
						err := <-c.done
						c.done <- err
						ended <- i
					}()
				}
				victim := receive(t, ended, "the deadlock is found")
				told := map[int]bool{victim: true}
				// A server may choose two victims if their waits begin at the same moment.
				for more := true; more; {
					select {
					case i := <-ended:
						told[i] = true
					case <-time.After(100 * time.Millisecond):
						more = false
					}
				}
				for i := range parties {
					assert.Equal(t, sessions[i], f.holder(names[i]), "the outer locks stay")
					if told[i] {
						requireError(t, inner[i].err(t), namedlock.ErrDeadlock, names[(i+1)%parties])
					} else {
						inner[i].waits(t)
					}
				}

				outer[victim].release(t)
				for i := range parties - 1 {
					// The process that waits for the one before, unless it is a victim.
					next := (victim - 1 - i + 2*parties) % parties
					if !told[next] {
						inner[next].holds(t)
						inner[next].release(t)
					}
					outer[next].release(t)
				}
				f.free(names...)
			})
		}
	})
}

// Within one Locker a cycle is detected before a statement is sent, however
// many chains take part. The call that closes the cycle is refused.
func TestPromise08_DeadlockWithinALocker(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for what, parties := range map[string]int{"two": 2, "three": 3, "seven": 7} {
			t.Run(what, func(t *testing.T) {
				l, f := at.spied(t), at.foreign(t)
				var names []string
				var outer []*call
				var ctxs []context.Context
				for range parties {
					name := newName("party")
					c, ctx := hold(t, t.Context(), l, name)
					names, outer, ctxs = append(names, name), append(outer, c), append(ctxs, ctx)
				}
				next := func(i int) int { return (i + 1) % parties }
				var inner []*call
				for i := range parties - 1 {
					c := begin(t, ctxs[i], l, names[next(i)], namedlock.Forever)
					c.queued(t)
					inner = append(inner, c)
				}
				last := parties - 1
				requireError(t, l.WithLock(ctxs[last], names[0], patience, unexpected(t)), namedlock.ErrDeadlock, names[0])
				for i, c := range inner {
					c.waits(t)
					assert.NoError(t, ctxs[i].Err())
				}
				for _, name := range names {
					assert.NotZero(t, f.holder(name), "the outer locks stay")
				}

				// The last chain gives way, and the other chains continue one after the
				// other.
				outer[last].release(t)
				for i := last - 1; i >= 0; i-- {
					inner[i].holds(t)
					inner[i].release(t)
					outer[i].release(t)
				}
				f.free(names...)
			})
		}
	})
}

// A cycle through a goroutine that fn started is also detected, since its lock
// belongs to the chain.
func TestPromise08_DeadlockUnderANestedLock(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f := at.locker(t), at.foreign(t)
		a, b, c, d := newName("a"), newName("b"), newName("c"), newName("d")
		_, ctxA := hold(t, t.Context(), l, a)
		_, ctxAB := hold(t, ctxA, l, b)
		_, ctxC := hold(t, t.Context(), l, c)
		_, ctxCD := hold(t, ctxC, l, d)
		waits := begin(t, ctxAB, l, c, namedlock.Forever)
		waits.queued(t)
		for _, name := range []string{a, b} {
			requireError(t, l.WithLock(ctxCD, name, patience, unexpected(t)), namedlock.ErrDeadlock, name)
		}
		waits.waits(t)
		for _, name := range []string{a, b, c, d} {
			assert.NotZero(t, f.holder(name))
		}
	})
}

// Chains that wait for each other without a cycle are all served, whether they
// share a session or not.
func TestPromise08_NoDeadlockWithoutACycle(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f := at.locker(t, namedlock.WithMaxSessions(2)), at.foreign(t)
		a, b, c, taken := newName("a"), newName("b"), newName("c"), newName("taken")
		f.lock(taken)
		first, ctxA := hold(t, t.Context(), l, a)
		_, ctxB := hold(t, t.Context(), l, b)
		_, ctxC := hold(t, t.Context(), l, c)
		forTaken := begin(t, ctxA, l, taken, namedlock.Forever)
		forTaken.queued(t)
		forA := begin(t, ctxB, l, a, namedlock.Forever)
		forA.queued(t)
		forB := begin(t, ctxC, l, b, 300*time.Millisecond)
		forB.queued(t)
		requireError(t, forB.err(t), namedlock.ErrTimeout, b)
		forTaken.waits(t)
		forA.waits(t)
		f.unlock(taken)
		forTaken.holds(t)
		forTaken.release(t)
		first.release(t)
		forA.holds(t)
		forA.release(t)
	})
}

// If the locks of two chains are on one session, the server could take their
// waits for a cycle. The Locker avoids that, so that no foreign session becomes
// the victim.
func TestPromise08_SharedSessionIsNoCycle(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, stranger, f := at.locker(t, namedlock.WithMaxSessions(1)), at.foreign(t), at.foreign(t)
		ours, theirs := newName("ours"), newName("theirs")
		stranger.lock(theirs)
		holder, _ := hold(t, t.Context(), l, ours)
		waiter := begin(t, t.Context(), l, theirs, namedlock.Forever) // another chain
		waiter.queued(t)
		got := make(chan error, 1)
		go func() {
			_, err := stranger.ask(locksql.SelectGetLock, ours, 60)
			got <- err
		}()
		at.awaitWaiter(t, ours)
		select {
		case err := <-got:
			require.FailNow(t, "the stranger's wait has ended", "%v", err)
		case err := <-waiter.done:
			require.FailNow(t, "our wait has ended", "%v", err)
		case <-time.After(500 * time.Millisecond): // long enough for some polls
		}
		holder.release(t)
		require.NoError(t, receive(t, got, "the stranger's turn"))
		assert.Equal(t, stranger.id, f.holder(ours))
		waiter.waits(t)
		stranger.unlock(theirs)
		waiter.holds(t)
		waiter.release(t)
	})
}
