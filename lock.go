package namedlock

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/queue"
)

// Forever, as a timeout, waits for others until the context is done. It does not wait for a
// server that cannot be asked: that is [ErrUnavailable]. A wait that has begun outlasts an
// outage of the server only if the context has a deadline.
const Forever time.Duration = math.MaxInt64

// WithLock runs GET_LOCK, then fn, then RELEASE_LOCK, on one session.
//
// timeout bounds the wait for others: 0 tries once, Forever waits for ctx alone. At its
// end the error matches [ErrTimeout], and [ErrNoSession], too, if no session was free. No
// timeout waits for a server that is down: see [ErrUnavailable]. fn runs if and only if the
// lock was acquired; otherwise the error says why, and nothing is held. The lock is
// released however fn ends: by a return, an error, a panic, runtime.Goexit, and also when
// ctx has ended meanwhile. A panic goes on with its own value and stack.
//
// The ctx that fn gets ends with ctx, when the lock is lost (its cause then
// matches [ErrLost]) and when fn has returned. Locks that are taken under it nest;
// to take the same one again is [ErrReentrant].
//
// WithLock returns what fn returned, as it is. If the lock was not provably held
// to the end, that is joined by an error that matches [ErrLost].
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

// hold runs code under the lock, and releases the lock however the code ends. It returns
// what the code returned, and what the release found: nil, or a loss.
func (k *Lock) hold(code func(ctx context.Context) error) (returned, lost error) {
	ctx, ended := k.ctx, false
	defer func() {
		lost, _ = k.release() // RELEASE_LOCK
		k.loss = lost
		if lost != nil && !ended {
			// The code panics or exits, and goes on doing so: nobody gets the error.
			k.call.lostUntold(lost)
		}
		k.call.over(ctx, lost, returned, !ended)
	}()
	k.ctx = k.grant.Context(k.ctx, k.lost) // which asks ctx: code of the user's
	ctx = k.call.got(k.ctx)
	returned = code(ctx)
	ended = true
	return returned, nil
}

// both joins two errors, such as that of the code under a lock and a loss. One that is
// alone is returned as it is.
func both(first, second error) error {
	switch {
	case second == nil:
		return first
	case first == nil:
		return second
	}
	return errors.Join(first, second)
}

// Interface is what code that takes locks needs of a Locker. Code that asks for it,
// rather than for a *Locker, can be tested without a server: with package locktest,
// or with a stand-in of its own.
type Interface interface {
	// WithLock runs fn if and only if it could take the lock, and releases the lock
	// however fn ends. [Locker.WithLock] has the whole contract, and locktest.Run
	// tests it.
	WithLock(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context) error) error
}

// Do is [Locker.WithLock] for a function that returns a value. Where the lock was not
// acquired the value is zero. Otherwise it is what fn returned, also beside an
// error: fn's own, or one that matches [ErrLost], which says that others may have had
// the lock while the value was made. The error is that of l.WithLock. After a panic
// or Goexit of fn, Do does not return.
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

// Acquire takes the lock for code that does not fit into one function. ctx and
// timeout bound the acquiring as in [Locker.WithLock]; the lock outlives ctx. It is held
// until Release, which must be called.
func (l *Locker) Acquire(ctx context.Context, name string, timeout time.Duration) (*Lock, error) {
	lock, err := l.getLock(ctx, Event{Method: "Acquire", Name: name, Timeout: timeout}, queue.Terms{Timeout: timeout, Left: timeout})
	if err != nil {
		return nil, err
	}
	returned := false
	defer func() {
		if !returned { // a hook has called runtime.Goexit, or the context has panicked
			_ = lock.Release()
		}
	}()
	lock.ctx = lock.grant.Context(context.WithoutCancel(lock.ctx), lock.lost)
	lock.ctx = lock.call.got(lock.ctx)
	returned = true
	return lock, nil
}

// getLock takes the lock: the arguments are checked, and the queue asks a session.
func (l *Locker) getLock(ctx context.Context, e Event, terms queue.Terms) (*Lock, error) {
	lock := &Lock{name: e.Name}
	return lock, lock.get(l, ctx, e, terms)
}

func (k *Lock) get(l *Locker, ctx context.Context, e Event, terms queue.Terms) error {
	return k.getBy(l, ctx, e, func() (err error) {
		if err = l.check(k.ctx, k.name, e.Timeout); err == nil {
			k.grant, err = l.queue.Acquire(k.ctx, l.namespace+k.name, terms, &k.call)
		}
		return err
	})
}

// getBy begins the call for the lock, which acquire acquires.
func (k *Lock) getBy(l *Locker, ctx context.Context, e Event, acquire func() error) error {
	if l.isZero() {
		return acquireError(k.name, errZeroLocker)
	}
	k.ctx = k.call.begin(l, ctx, e)
	answered := false
	defer func() {
		if !answered { // the context has panicked: code of the user's
			l.observer.end(k.call.counted)
		}
	}()
	err := acquire()
	if err != nil {
		err = l.explain(k.name, err)
	}
	answered = true
	k.call.answered(err)
	return err
}

// check returns an error for arguments that no server need be asked about.
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

var (
	errNoFunction = errors.New("the function to run under the lock is nil")
	errNoContext  = errors.New("the context is nil")
	errZeroLocker = errors.New("the Locker was not made by New or Open")
	errZeroLock   = errors.New("the Lock was not returned by Acquire")
)

func acquireError(name string, err error) error {
	return &Error{Op: OpAcquire, Name: name, Err: err}
}

// explain is acquireError with who was in the way, if that is known.
func (l *Locker) explain(name string, err error) error {
	if late, ok := err.(*queue.Late); ok {
		return &Error{Op: OpAcquire, Name: name, Holder: l.inTheWay(late), Err: late.Unwrap()}
	}
	return acquireError(name, err)
}

// A Lock is held from Acquire to Release. It is safe for concurrent use.
type Lock struct {
	name  string
	grant *queue.Grant
	ctx   context.Context // of the call, and then of the code under the lock
	call  call
	tx    *transaction // of WithLockTx; nil: another call
	loss  error        // that the release of hold has found
}

// Name returns the lock's name as it was given to Acquire.
func (k *Lock) Name() string { return k.name }

// Context returns a context that carries the values, not the cancellation, of the
// one given to Acquire. It ends when the lock is released (cause
// context.Canceled) or lost (the cause matches [ErrLost]). Locks taken under it
// belong to the same call chain. That of a Lock which Acquire has not returned has ended.
func (k *Lock) Context() context.Context {
	if k.ctx == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(errZeroLock)
		return ctx
	}
	return k.ctx
}

// Release gives the lock back. nil means that it was held to the end; any other
// error matches [ErrLost] and means that others may have had it meanwhile. Either
// way it is not held any more, and the Locker's next caller can have it. Release
// may be called again, also at the same time; every call reports what the first
// one found and touches nothing.
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

// release runs RELEASE_LOCK, or waits for the call that does. It reports whether it is
// the first: then call.over must follow.
func (k *Lock) release() (err error, first bool) {
	err = k.grant.Release()
	if err != nil {
		e := &Error{Op: OpRelease, Name: k.name, Err: err}
		if k.tx != nil {
			e.Tx = k.tx.outcome
		}
		err = e
	}
	return err, k.call.released(err)
}

func (k *Lock) lost(cause error) error {
	k.call.lost()
	return &Error{Op: OpHold, Name: k.name, Err: cause}
}
