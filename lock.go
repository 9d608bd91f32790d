package namedlock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/queue"
	"github.com/go-namedlock/namedlock/internal/slot"
)

// WithLock acquires the lock, runs fn, and releases the lock. It sends GET_LOCK
// and RELEASE_LOCK on one session.
//
// # Parameters
//
// timeout limits the wait for other holders. Zero tries once; [Forever] waits
// until ctx is done; a negative timeout returns [ErrInvalidTimeout]. Whatever
// the timeout, a call does not start to wait for a server that is down: see
// [ErrUnavailable]. The time to open a session and to send the first GET_LOCK
// does not count. Each of these is limited by ctx and by 5 s.
//
// fn runs if and only if the lock was acquired. Its ctx ends when ctx ends,
// when the lock is lost (its cause then matches [ErrLost]), and when fn
// returns. A lock that is acquired under fn's ctx is nested. Acquiring the same
// lock again under it returns [ErrReentrant]. If fn acquires the same lock
// under the outer ctx, the call waits for fn's own lock until its timeout.
//
// # Errors
//
// If the lock was not acquired, the error says why, and nothing is held. At the
// end of timeout it matches [ErrTimeout], and also [ErrNoSession] if no session
// was free.
//
// If fn ran, WithLock returns fn's error unchanged. If it cannot prove that the
// lock was held until fn returned, it joins that error with one that matches
// [ErrLost].
//
// The lock is released however fn ends: by returning nil or an error, by a
// panic, or by runtime.Goexit, even if ctx has ended in the meantime. A panic
// propagates with its original value and stack.
func (l *Locker) WithLock(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context) error) (err error) {
	if fn == nil {
		return acquireError(name, errNoFunction)
	}
	lock, err := l.getLock(ctx, Event{Method: "WithLock", Name: name, Timeout: timeout}, queue.Terms{Timeout: timeout, Left: timeout}) // GET_LOCK
	if err != nil {
		return err
	}
	return both(lock.hold(fn))
}

// hold runs code under the lock, and releases the lock however the code ends.
// It returns the code's error, and the error of the release: nil, or a loss.
func (k *Lock) hold(code func(ctx context.Context) error) (returned, lost error) {
	ctx, ended := k.ctx, false
	defer func() {
		lost, _ = k.release() // RELEASE_LOCK
		k.loss = lost
		if lost != nil && !ended {
			// The code panics or exits, and continues to do so: no caller gets
			// the error.
			k.call.lostUntold(lost)
		}
		k.call.over(ctx, lost, returned, !ended)
	}()
	k.ctx = k.grant.Context(k.ctx, k.lost) // calls methods of ctx, which are code of the user
	ctx = k.call.got(k.ctx)
	returned = code(ctx)
	ended = true
	return returned, nil
}

// both joins two errors, such as that of the code under a lock and a loss. If
// only one is not nil, it is returned as it is.
func both(first, second error) error {
	switch {
	case second == nil:
		return first
	case first == nil:
		return second
	}
	return errors.Join(first, second)
}

// Interface is the method that most code needs of a Locker. Code that takes an
// Interface instead of a *Locker can be tested without a server: with package
// locktest, or with a test double of its own.
type Interface interface {
	// WithLock runs fn if and only if the lock was acquired, and releases the
	// lock however fn ends. [Locker.WithLock] has the whole contract, and
	// locktest.Run tests it.
	WithLock(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context) error) error
}

// Do is [Locker.WithLock] for a function that returns a value. The error is
// that of l.WithLock.
//
// If the lock was not acquired, the value is zero. Otherwise it is the value
// that fn returned, even if there is an error: fn's own, or one that matches
// [ErrLost]. An ErrLost means that another caller may have held the lock while
// fn made the value. After a panic or Goexit of fn, Do does not return.
func Do[T any](ctx context.Context, l Interface, name string, timeout time.Duration, fn func(ctx context.Context) (T, error)) (T, error) {
	var value T
	if fn == nil {
		return value, acquireError(name, errNoFunction)
	}
	err := l.WithLock(ctx, name, timeout, func(ctx context.Context) (err error) {
		value, err = fn(ctx)
		return err
	})
	return value, err
}

// Acquire acquires the lock for code that does not fit into one function. The
// lock is held until [Lock.Release], which must be called. Run the code under
// [Lock.Context], which ends if the lock is lost.
//
// name, timeout, ctx and the errors of acquiring are as in [Locker.WithLock].
// ctx limits only the acquiring: the lock outlives it.
func (l *Locker) Acquire(ctx context.Context, name string, timeout time.Duration) (*Lock, error) {
	lock, err := l.getLock(ctx, Event{Method: "Acquire", Name: name, Timeout: timeout}, queue.Terms{Timeout: timeout, Left: timeout})
	if err != nil {
		return nil, err
	}
	returned := false
	defer func() {
		if !returned { // a hook has called runtime.Goexit, or a method of the context has panicked
			_ = lock.Release()
		}
	}()
	lock.ctx = lock.grant.Context(context.WithoutCancel(lock.ctx), lock.lost)
	lock.ctx = lock.call.got(lock.ctx)
	returned = true
	return lock, nil
}

// getLock acquires the lock from the queue. The Lock is not nil, whatever the
// error.
func (l *Locker) getLock(ctx context.Context, e Event, terms queue.Terms) (*Lock, error) {
	return l.get(ctx, e, func(k *Lock) (err error) {
		k.grant, err = l.queue.Acquire(k.ctx, l.namespace+k.name, terms, &k.call)
		return err
	})
}

// get begins the call, checks its arguments, and calls acquire for the lock.
func (l *Locker) get(ctx context.Context, e Event, acquire func(k *Lock) error) (*Lock, error) {
	k := &Lock{name: e.Name}
	if l.isZero() {
		return k, acquireError(k.name, errZeroLocker)
	}
	k.ctx = k.call.begin(l, ctx, e)
	answered := false
	defer func() {
		if !answered { // a method of the context, which is code of the user, has panicked
			k.call.end()
		}
	}()
	err := l.check(k.ctx, k.name, e.Timeout)
	if err == nil {
		err = acquire(k)
	}
	if err != nil {
		err = l.explain(k.name, err)
	}
	answered = true
	k.call.answered(err)
	return k, err
}

// check returns an error for arguments that are wrong whatever the server.
func (l *Locker) check(ctx context.Context, name string, timeout time.Duration) error {
	if err := names.Check(l.namespace + name); err != nil {
		return err
	}
	if timeout < 0 {
		return fault.Because(fault.ErrInvalidTimeout,
			fmt.Sprintf("invalid timeout %v: must not be negative; 0 tries once, Forever waits for the context", timeout), nil)
	}
	if ctx == nil {
		return errNoContext
	}
	return nil
}

// explain is acquireError with the holder of the lock, if it is known.
func (l *Locker) explain(name string, err error) error {
	if late, ok := err.(*queue.Late); ok {
		return &Error{Op: OpAcquire, Name: name, Holder: l.inTheWay(late), Err: late.Unwrap()}
	}
	return acquireError(name, err)
}

// A Lock is held from [Locker.Acquire] to Release. It is safe for concurrent
// use.
type Lock struct {
	name  string
	grant *queue.Grant
	slot  *slot.Grant     // whose lock grant is; nil: of a call for a lock
	ctx   context.Context // of the call, and then of the code under the lock
	call  call
	tx    *TxOutcome // of the transaction of WithLockTx; nil: another call
	loss  error      // the error of the release in hold
}

// Name returns the lock's name as it was given to Acquire.
func (k *Lock) Name() string { return k.name }

// Context returns a context that carries the values of the one given to
// Acquire, but not its cancellation. It ends when the lock is released (with
// the cause context.Canceled) or lost (with a cause that matches [ErrLost]).
// Locks acquired under it belong to the same call chain. The Context of a Lock
// that was not returned by Acquire has already ended.
func (k *Lock) Context() context.Context {
	if k.ctx == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errZeroLock)
		return ctx
	}
	return k.ctx
}

// Release releases the lock. Afterwards it is not held any more, whatever the
// result, and the Locker's next caller can acquire it. [WithReleaseTimeout]
// limits how long the server may take, to 5 s by default.
//
// nil means that the lock was held to the end. An error that matches [ErrLost]
// means that another caller may have held the lock in the meantime. A Lock that
// was not returned by Acquire has an error of its own.
//
// Release may be called again, and concurrently. Every call returns the result
// of the first one, and changes nothing.
func (k *Lock) Release() error {
	if k == nil || k.grant == nil {
		return &Error{Op: OpRelease, Err: errZeroLock}
	}
	err, first := k.release()
	if first {
		k.call.over(k.ctx, err, nil, false)
	}
	return err
}

// release runs RELEASE_LOCK, or waits for the call that does. first reports
// whether this is that call: then call.over must follow.
func (k *Lock) release() (err error, first bool) {
	if k.slot != nil {
		err = k.slot.Release()
	} else {
		err = k.grant.Release()
	}
	if err != nil {
		e := &Error{Op: OpRelease, Name: k.name, Err: err}
		if k.tx != nil {
			e.Tx = *k.tx
		}
		err = e
	}
	return err, k.call.released(err)
}

func (k *Lock) lost(cause error) error {
	k.call.lost()
	return &Error{Op: OpHold, Name: k.name, Err: cause}
}
