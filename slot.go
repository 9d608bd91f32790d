package namedlock

import (
	"context"
	"time"

	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/queue"
)

// WithSlot is [Locker.WithLock] for up to n holders: at most n callers of all processes
// run fn at a time under the same name, each with a slot from 0 to n-1 that no other
// caller has. It is a semaphore whose places are numbered. The number is good for
// whatever there are n of: a partition, a port, a worker's directory.
//
// Callers of all processes are served in the order in which they came, as far as those
// of a lock are. A caller gets the free slot with the lowest number. n is 1 to 1000.
//
// name, timeout, the ctx of fn, and the errors are as in WithLock. An ErrTimeout
// reports that no slot was free, or that others waited before this call. With timeout 0 that takes up to 100 ms if another
// caller looks for a slot at the same time. Error.Holder is the holder of one of the
// slots, where that is known. The slot is released however fn ends. If it is lost, the
// ctx of fn ends, and another caller can have that slot.
//
// # Slots are locks
//
// Slot 2 of the name "export" is the lock "export#2". The slot is acquired under another
// lock, "export#gate", which is released before fn runs: only its holder looks for a
// free slot, and all other callers are in the queue for it. So a name has at most 59
// characters, namespace included. [Locker.Holder] takes the name of a slot, and
// [Locker.Holders]("export#") lists all that are held, and the gate while a caller
// waits. Locks of the name "export"
// itself have nothing to do with its slots.
//
// # Different n
//
// Callers may differ in n, as the processes of two versions do while a new version is
// rolled out. Then at most as many run as the greatest n. A caller with a smaller n, whose
// slots are all used, holds up the callers behind it, although their slots may be free.
//
// # What a wait costs
//
// One session a process waits, however many callers there are, and one session of all
// processes asks for a free slot: at most 20 statements a second for a name. A slot that
// becomes free is acquired within 100 ms and three round trips, and usually at once if its holder is in the
// same process, or has held its slot for the longest time. After a search of a minute
// that takes up to a second. With New, and for a caller that holds other locks, it takes up
// to 60 ms.
//
// The session that asks has the gate, so it is not free for a transaction or a Lead. With
// New, which has no other session, WithLockTx, WithTerm and Lead wait for the end of
// the search. With Open, MaxOpenConns should be 3 or more.
//
// # Nesting
//
// Locks nest under a slot, and slots of other names nest. A call for a name of which the call
// chain has a slot already is [ErrReentrant], whatever its n. A deadlock of callers that have
// slots and wait for others is found for n = 1. Otherwise the timeout ends it. A server may also
// report [ErrDeadlock], to any caller of the circle, although another slot would become free.
func (l *Locker) WithSlot(ctx context.Context, name string, n int, timeout time.Duration, fn func(ctx context.Context, slot int) error) error {
	if fn == nil {
		return acquireError(name, errNoFunction)
	}
	lock := &Lock{name: name}
	var slot int
	err := lock.getBy(l, ctx, Event{Method: "WithSlot", Name: name, Timeout: timeout}, func() (err error) {
		full := l.namespace + name
		if err = names.CheckSlots(full, n); err != nil {
			return err
		}
		if err = l.check(lock.ctx, name, timeout); err == nil {
			lock.grant, slot, err = l.queue.AcquireSlot(lock.ctx, full, n, queue.Terms{Timeout: timeout, Left: timeout}, &lock.call)
		}
		return err
	})
	if err != nil {
		return err
	}
	lock.call.event.Slot = slot
	return both(lock.hold(func(ctx context.Context) error { return fn(ctx, slot) }))
}

// SlotInterface is what code needs of a Locker that calls [Locker.WithSlot]. *Locker and the
// Locker of package locktest have it.
type SlotInterface interface {
	WithSlot(ctx context.Context, name string, n int, timeout time.Duration, fn func(ctx context.Context, slot int) error) error
}
