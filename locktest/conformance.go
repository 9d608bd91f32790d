package locktest

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
)

// A Process is what Run tests: one user of the locks, which shares nothing with
// others but the server. Only WithLock is required. What is nil is not tested,
// and the tests that need it are skipped.
//
// Errors have to be those of package namedlock: an *Error, with the name, that
// matches one of the sentinels or the context's error.
type Process struct {
	namedlock.Interface

	// Acquire is that of a *namedlock.Locker.
	Acquire func(ctx context.Context, name string, timeout time.Duration) (Lock, error)

	// WithLocks is that of a *namedlock.Locker.
	WithLocks func(ctx context.Context, names []string, timeout time.Duration, fn func(ctx context.Context) error) error

	// WithSlot is that of a *namedlock.Locker.
	WithSlot func(ctx context.Context, name string, n int, timeout time.Duration, fn func(ctx context.Context, slot int) error) error

	// WithLockTx is that of a *namedlock.Locker. Its transactions may come from
	// anywhere: nothing is written.
	WithLockTx func(ctx context.Context, name string, timeout time.Duration, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) error) error

	// Close is that of a *namedlock.Locker. Run calls it at the end of each test.
	Close func() error

	// Lose takes a lock of the process away from it, in a way that it notices
	// within a second or so: by a KILL of the session, say.
	Lose func(name string)

	// LossIsFinal says that after a loss the process takes no more locks, as a
	// Locker from namedlock.New does not, whose connection has gone.
	LossIsFinal bool
}

// A Lock is what Process.Acquire returns, as *namedlock.Lock is.
type Lock interface {
	Name() string
	Context() context.Context
	Release() error
}

// A Factory sets up for one test. It returns a function that starts one
// process, as often as the test wants one, all on the same server. What they
// need to be stopped, beside Process.Close, goes into t.Cleanup.
type Factory func(t *testing.T) (start func() Process)

// ProcessOf returns the Process that a *namedlock.Locker is, without Lose, or a
// Locker of this package, with it. WithLocks, WithSlot and WithLockTx are set
// for whatever has them; a Locker of this package has the latter if it has a db
// for transactions (TxFrom).
func ProcessOf(l interface {
	namedlock.Interface
	Acquire(ctx context.Context, name string, timeout time.Duration) (*namedlock.Lock, error)
	Close() error
}) Process {
	p := Process{
		Interface: l,
		Acquire: func(ctx context.Context, name string, timeout time.Duration) (Lock, error) {
			return l.Acquire(ctx, name, timeout)
		},
		Close: l.Close,
	}
	if l, ok := l.(interface {
		WithLocks(ctx context.Context, names []string, timeout time.Duration, fn func(ctx context.Context) error) error
	}); ok {
		p.WithLocks = l.WithLocks
	}
	if l, ok := l.(namedlock.SlotInterface); ok {
		p.WithSlot = l.WithSlot
	}
	if l, ok := l.(interface {
		WithLockTx(ctx context.Context, name string, timeout time.Duration, opts *sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) error) error
	}); ok {
		p.WithLockTx = l.WithLockTx
	}
	if l, ok := l.(*Locker); ok && l.txDB == nil {
		p.WithLockTx = nil
	}
	if l, ok := l.(interface{ Lose(name string) }); ok {
		p.Lose = l.Lose
	}
	return p
}

// Run tests that an implementation of namedlock.Interface keeps the promises of
// package namedlock, as far as they show to its users: one subtest for each,
// named by its number, or WithLocks or WithSlot if it is about that, and what
// it says. It takes names of its own, so that it can run on a server that
// others use; and it takes real time, some seconds, or some minutes if much
// fails. A WithLock that does not come back at all panics, so that it is seen.
// This package's Locker passes it, as do Lockers on MySQL and on MariaDB.
func Run(t *testing.T, factory Factory) {
	t.Helper()
	if !t.Run("00_ProcessesShareAServer", func(t *testing.T) { promise{test: shareAServer}.run(t, factory) }) {
		t.Fatal("the promises cannot be checked")
	}
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) { p.run(t, factory) })
	}
}

// shareAServer finds a factory whose processes have nothing to do with each
// other.
func shareAServer(s *suite) {
	p, other, name := s.start(), s.start(), s.name("shared")
	err := p.WithLock(s.Context(), name, patience, func(context.Context) error {
		return other.WithLock(s.Context(), name, 0, func(context.Context) error {
			s.Error("two processes hold the same lock: the factory must start all processes on one server, each with its own sessions")
			return nil
		})
	})
	if !s.Failed() {
		s.matches(err, namedlock.ErrTimeout)
	}
}

// A promise is one of Run's tests.
type promise struct {
	name string
	test func(s *suite)
}

var promises = []promise{
	{"01_BadArgumentsNeverRunFn", badArguments},
	{"01_EndedContextNeverRunsFn", endedContext},
	{"02_ZeroTriesOnce", zeroTriesOnce},
	{"02_ForeverWaitsForTheHolder", foreverWaits},
	{"02_TimeoutBoundsTheLocalLine", localLineIsBounded},
	{"02_FreeNameBesideWaiters", freeNameBesideWaiters},
	{"03_WaitIsExact", waitIsExact},
	{"04_ContextEndsFirst", contextEndsFirst},
	{"04_NestedTimeoutHasItsName", nestedTimeout},
	{"05_CancelReturnsAtOnce", cancelReturns},
	{"05_CancelLeavesNothingHeld", cancelLeavesNothing},
	{"08_DeadlockWithinAProcess", deadlockWithin},
	{"08_DeadlockBetweenProcesses", deadlockBetween},
	{"08_SameOrderIsNoDeadlock", noDeadlock},
	{"09_NeverTwiceAtOnce", neverTwice},
	{"09_FirstInFirstOut", firstInFirstOut},
	{"10_HeldAgainIsErrHeld", heldAgain},
	{"10_OtherNamesNest", otherNamesNest},
	{"10_ContextKeptAfterRelease", contextKept},
	{"10_OtherProcessesChain", otherProcessesChain},
	{"11_LossEndsTheContext", lossEndsTheContext},
	{"11_NameStaysClosedAfterALoss", closedAfterLoss},
	{"15_ReleasedHoweverFnEnds", releasedHoweverFnEnds},
	{"15_ReleasedAfterItsContext", releasedAfterItsContext},
	{"15_AcquiredOutlivesItsContext", acquiredOutlives},
	{"17_FnsErrorAsItIs", fnsErrorAsItIs},
	{"17_LossIsJoined", lossIsJoined},
	{"17_ReleaseIsNoLoss", releaseIsNoLoss},
	{"18_ReleaseTwice", releaseTwice},
	{"18_ReleaseAfterLoss", releaseAfterLoss},
	{"27_TxReleasedHoweverFnEnds", txReleased},
	{"27_TxFnsErrorAsItIs", txFnsError},
	{"30_LocksNestInATx", txLocksNest},
	{"30_TxInATxIsRefused", txInTx},
	{"19_CloseEndsWaitsAndRefuses", closeEndsWaits},
	{"19_CloseWaitsForHolders", closeWaits},
	{"20_OuterLockSurvivesNestedWaits", outerLockSurvives},
	{"21_LongestNames", longestNames},
	{"21_NamesAreDistinct", namesAreDistinct},
	{"WithLocks_BadArgumentsNeverRunFn", badLists},
	{"WithLocks_AllOrNothing", allOrNothing},
	{"WithLocks_OneTimeoutForAll", oneTimeoutForAll},
	{"WithLocks_OverlapIsNoDeadlock", overlapIsNoDeadlock},
	{"WithLocks_DuplicatesAreTakenOnce", duplicatesOnce},
	{"WithLocks_HeldAgainIsErrHeld", oneHeldAgain},
	{"WithLocks_ReleasedInReverse", releasedInReverse},
	{"WithLocks_ReleasedHoweverFnEnds", allReleasedHoweverFnEnds},
	{"WithLocks_LossOfOneEndsTheContext", lossOfOne},
	{"WithSlot_NeverTwoInOneSlot", neverTwoInOneSlot},
	{"WithSlot_NoMoreThanN", noMoreThanN},
	{"WithSlot_HeldAgainIsErrReentrant", slotHeldAgain},
}

func (p promise) run(t *testing.T, factory Factory) {
	t.Helper()
	p.test(&suite{T: t, another: factory(t)})
}
