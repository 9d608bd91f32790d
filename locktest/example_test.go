package locktest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// A small service, and its unit tests. Invoices is what production code looks
// like: it asks for a namedlock.Interface, and in production gets what
// namedlock.Open returns.
type Invoices struct {
	Locks namedlock.Interface
	Store interface {
		Save(ctx context.Context, customer int) error
	}
}

var ErrBusy = errors.New("somebody else is at this customer's invoices")

// Write writes a customer's invoices, never twice at once.
func (i Invoices) Write(ctx context.Context, customer int) error {
	err := i.Locks.WithLock(ctx, fmt.Sprintf("invoices-%d", customer), 5*time.Second, func(ctx context.Context) error {
		return i.Store.Save(ctx, customer)
	})
	if errors.Is(err, namedlock.ErrTimeout) {
		return ErrBusy
	}
	return err
}

// store is the tests' stand-in for a database.
type store func(ctx context.Context, customer int) error

func (s store) Save(ctx context.Context, customer int) error { return s(ctx, customer) }

func saved(context.Context, int) error { return nil }

// Invoices are saved under the lock. AssertHeld, in the test double of the
// database, fails the test if the lock is not held, or if ctx is not the one
// that fn received.
func TestInvoices_UnderTheLock(t *testing.T) {
	locks := locktest.New()
	defer locks.Close()
	invoices := Invoices{Locks: locks, Store: store(func(ctx context.Context, customer int) error {
		locktest.AssertHeld(t, ctx, locks, "invoices-42")
		return nil
	})}

	if err := invoices.Write(t.Context(), 42); err != nil {
		t.Fatal(err)
	}
}

// Another process holds the lock for longer than the service waits. In a bubble
// the 5 s take no time.
func TestInvoices_Busy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New()
		defer locks.Close()
		locks.HoldElsewhere("invoices-42")

		err := Invoices{Locks: locks, Store: store(saved)}.Write(t.Context(), 42)
		if !errors.Is(err, ErrBusy) {
			t.Errorf("got error %v", err)
		}
		if call := locks.Calls()[0]; call.Timeout != 5*time.Second || call.Acquired {
			t.Errorf("asked by %+v", call)
		}
	})
}

// Another process holds the lock, and releases it in time.
func TestInvoices_Waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New()
		defer locks.Close()
		release := locks.HoldElsewhere("invoices-42")
		time.AfterFunc(3*time.Second, release)

		if err := (Invoices{Locks: locks, Store: store(saved)}).Write(t.Context(), 42); err != nil {
			t.Fatal(err)
		}
	})
}

// The lock is lost in the middle: the service has to stop, and to say so.
func TestInvoices_LockLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		locks := locktest.New()
		defer locks.Close()
		invoices := Invoices{Locks: locks, Store: store(func(ctx context.Context, customer int) error {
			locks.Lose("invoices-42")
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Minute):
				return errors.New("the service goes on without its lock")
			}
		})}

		err := invoices.Write(t.Context(), 42)
		if !errors.Is(err, namedlock.ErrLost) || !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v", err)
		}
	})
}

// Everything went well, but the release failed, so that nothing proves that the
// lock was held to the end.
func TestInvoices_ReleaseFails(t *testing.T) {
	locks := locktest.New()
	defer locks.Close()
	locks.FailNextRelease(errors.New("connection reset"))

	err := Invoices{Locks: locks, Store: store(saved)}.Write(t.Context(), 42)
	if !errors.Is(err, namedlock.ErrLost) {
		t.Errorf("got error %v", err)
	}
}

// The server is not there.
func TestInvoices_NoServer(t *testing.T) {
	locks := locktest.New()
	defer locks.Close()
	locks.FailNextAcquire(errors.New("connection refused"))

	err := Invoices{Locks: locks, Store: store(saved)}.Write(t.Context(), 42)
	if !errors.Is(err, namedlock.ErrUnavailable) {
		t.Errorf("got error %v", err)
	}
}

// Two processes run the service, against the same server: they take turns.
func TestInvoices_TwoProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here := locktest.New()
		defer here.Close()
		there := here.Peer()
		defer there.Close()
		inside := 0
		slow := store(func(ctx context.Context, customer int) error {
			if inside++; inside > 1 {
				t.Error("two at once")
			}
			time.Sleep(time.Second)
			inside--
			return nil
		})

		done := make(chan error)
		for _, locks := range []*locktest.Locker{here, there} {
			go func() { done <- Invoices{Locks: locks, Store: slow}.Write(t.Context(), 42) }()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// The calls of two Lockers, and their results.
func ExampleLocker_Calls() {
	locks := locktest.New()
	defer locks.Close()
	release := locks.HoldElsewhere("b")
	defer release()

	ctx := context.Background()
	_ = locks.WithLock(ctx, "a", time.Second, func(ctx context.Context) error {
		fmt.Println("held:", locks.HeldNames())
		return locks.WithLock(ctx, "b", 0, func(context.Context) error { return nil })
	})
	for _, call := range locks.Calls() {
		fmt.Println(call.Name, call.Timeout, call.Acquired, call.Err)
	}
	// Output:
	// held: [a]
	// a 1s true namedlock: acquire "b": not acquired (timeout 0): the lock is held
	// b 0s false namedlock: acquire "b": not acquired (timeout 0): the lock is held
}

// An implementation of one's own is held to the same promises.
func ExampleRun() {
	TestMyLocks := func(t *testing.T) {
		locktest.Run(t, func(t *testing.T) (start func() locktest.Process) {
			server := newServer()
			return func() locktest.Process {
				locks := server.connect()
				return locktest.Process{Interface: locks, Close: locks.Close}
			}
		})
	}
	_ = TestMyLocks
}

// server is the server of your implementation.
type server struct{ locks *locktest.Locker }

func newServer() server { return server{locktest.New()} }

func (s server) connect() *locktest.Locker { return s.locks.Peer() }
