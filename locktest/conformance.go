package locktest

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
)

// A Process is one user of the locks under test by Run. Processes share only
// the server. Only WithLock is required. The tests that need a field which is
// nil are skipped.
//
// Errors must be those of package namedlock: an *Error, with the name, that
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

	// Lose takes a lock away from the process, for example by a KILL of the
	// session. The process must notice it within about 1 s.
	Lose func(name string)

	// LossIsFinal says that the process acquires no lock after a loss, like a
	// Locker from namedlock.New, whose only connection is then closed.
	LossIsFinal bool
}

// A Lock is the result of Process.Acquire. *namedlock.Lock implements it.
type Lock interface {
	Name() string
	Context() context.Context
	Release() error
}

// A Factory prepares one test. It returns a function that starts one process at
// each call, all on the same server. Use t.Cleanup for everything that must be
// stopped in addition to Process.Close.
type Factory func(t *testing.T) (start func() Process)

// ProcessOf returns a Process for a *namedlock.Locker, without Lose, or for a
// Locker of this package, with Lose. It sets WithLocks, WithSlot and WithLockTx
// if l has these methods. For a Locker of this package, it sets WithLockTx only
// if TxFrom was called.
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
	if l, ok := l.(*Locker); ok && l.txFrom() == nil {
		p.WithLockTx = nil
	}
	if l, ok := l.(interface{ Lose(name string) }); ok {
		p.Lose = l.Lose
	}
	return p
}

// Run tests that an implementation of namedlock.Interface keeps the promises of
// package namedlock, as far as its users can observe them. Each promise is a
// subtest. Its name has the number of the promise, or WithLocks or WithSlot,
// and a summary. Run uses its own lock names, so it can run on a shared server.
// It takes real time: some seconds, or some minutes if many tests fail. If
// WithLock does not return, Run panics. The Locker of this package passes, as
// do Lockers on MySQL and on MariaDB.
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
