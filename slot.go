package namedlock

import (
	"context"
	"time"

	"github.com/go-namedlock/namedlock/internal/names"
)

// WithSlot acquires one of n slots of name, runs fn with its number, and
// releases the slot. At most n callers of all processes run fn at a time. Each
// has a slot from 0 to n-1 that no other caller has. So WithSlot is a semaphore
// whose places are numbered. The number can select a partition, a port, or a
// worker's directory, for example.
//
// n is 1 to 1000. A caller gets the free slot with the lowest number. Callers
// of all processes are served in the order in which they came, as those of a
// lock are.
//
// name, timeout, fn's ctx and the errors are as in [Locker.WithLock]. name has
// at most 59 characters, namespace included. [ErrTimeout] reports that no slot
// was free, or that other callers waited before this call. Error.Holder is the
// holder of one of the slots, if one is known. With timeout 0 the call takes up
// to 100 ms if another caller is looking for a slot at the same time.
//
// The slot is released however fn ends. If it is lost, fn's ctx ends, and
// another caller can acquire that slot. Until fn returns, more than n callers
// can then run.
//
// # Slots are locks
//
// Slot 2 of the name "export" is the lock "export#2". The slot is acquired
// under another lock, the gate, which is "export#gate" and is released before
// fn runs. Only the holder of the gate looks for a free slot. All other callers
// are in the queue for the gate.
//
// [Locker.Holder] accepts the name of a slot. [Locker.Holders]("export#") lists
// all held slots, and the gate while a caller waits. Locks of the name "export"
// itself have nothing to do with its slots.
//
// # Different n
//
// Callers may differ in n, as the processes of two versions do while a new
// version is rolled out. Then at most as many run as the greatest n. If the
// slots of a caller with a smaller n are all held, it delays the callers after
// it, although their slots may be free.
//
// # Sessions and statements
//
// In each process one session waits for a name, however many callers wait. One
// session of all processes looks for a free slot. It sends at most 20
// statements a second for a name. It has the gate, so it is not free for a
// transaction or a Lead.
//
// A slot that becomes free is acquired within 100 ms and three round trips. It
// is usually acquired at once if its holder is in the same process, or has held
// its slot for the longest time. In two cases the limit is not 100 ms:
//
//   - After a search of 1 minute, it is 1 s.
//   - With [New], and for a caller that holds other locks, it is 60 ms.
//
// New has no other session, so there [Locker.WithLockTx], [Locker.WithTerm] and
// [Locker.Lead] wait for the end of the search. With [Open], MaxOpenConns
// should be 3 or more.
//
// # Nesting
//
// Locks nest under a slot, and so do slots of other names. If the call chain
// already has a slot of the name, the call returns [ErrReentrant], whatever n
// is.
//
// A deadlock of callers that hold slots and wait for other slots is detected
// only for n = 1. Otherwise the timeout ends it. A server may also report
// [ErrDeadlock] to any caller of a cycle, although another slot would become
// free.
func (l *Locker) WithSlot(ctx context.Context, name string, n int, timeout time.Duration, fn func(ctx context.Context, slot int) error) error {
	if fn == nil {
		return acquireError(name, errNoFunction)
	}
	lock, err := l.get(ctx, Event{Method: "WithSlot", Name: name, Timeout: timeout}, func(k *Lock) error {
		full := l.namespace + name
		err := names.CheckSlots(full, n)
		if err != nil {
			return err
		}
		if k.slot, err = l.slots.Acquire(k.ctx, full, n, timeout, &k.call); err == nil {
			k.grant = k.slot.Grant
		}
		return err
	})
	if err != nil {
		return err
	}
	slot := lock.slot.Number
	lock.call.event.Slot = slot
	return both(lock.hold(func(ctx context.Context) error { return fn(ctx, slot) }))
}

// SlotInterface is for code that calls [Locker.WithSlot]: see [Interface].
// *Locker and the Locker of package locktest implement it.
type SlotInterface interface {
	WithSlot(ctx context.Context, name string, n int, timeout time.Duration, fn func(ctx context.Context, slot int) error) error
}
