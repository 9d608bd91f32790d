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
	ctx, seen := l.see(ctx, Event{Method: "WithLock", Name: name, Timeout: timeout})
	return l.withLock(ctx, seen, name, timeout, timeout, fn)
}

// withLock is WithLock where left is what is left of timeout.
func (l *Locker) withLock(ctx context.Context, seen *sighting, name string, timeout, left time.Duration, fn func(ctx context.Context) error) (err error) {
	lock, err := l.getLock(ctx, name, queue.Terms{Timeout: timeout, Left: left}) // GET_LOCK
	if err != nil {
		seen.failed(ctx, err)
		return err
	}
	fnCtx := lock.grant.Context(ctx, lock.lost)
	returned := false
	defer func() {
		lost := lock.Release() // RELEASE_LOCK
		defer seen.released(fnCtx, lost, err, !returned)
		switch {
		case lost == nil:
		case !returned:
			// fn panics or exits, and goes on doing so: there is nobody to tell.
			lock.call.lostUntold(lost)
		case err == nil:
			err = lost
		default:
			err = errors.Join(err, lost)
		}
	}()
	fnCtx = seen.got(fnCtx)
	err = fn(fnCtx)
	returned = true
	return err
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
	ctx, seen := l.see(ctx, Event{Method: "Acquire", Name: name, Timeout: timeout})
	lock, err := l.getLock(ctx, name, queue.Terms{Timeout: timeout, Left: timeout})
	if err != nil {
		seen.failed(ctx, err)
		return nil, err
	}
	lock.seen = seen
	lock.ctx = lock.grant.Context(context.WithoutCancel(ctx), lock.lost)
	returned := false
	defer func() {
		if !returned { // a hook has called runtime.Goexit
			_ = lock.Release()
		}
	}()
	lock.ctx = seen.got(lock.ctx)
	returned = true
	return lock, nil
}

// getLock takes the lock: the arguments are checked, and the queue asks a session.
func (l *Locker) getLock(ctx context.Context, name string, terms queue.Terms) (*Lock, error) {
	lock := &Lock{name: name}
	if err := lock.get(l, ctx, terms); err != nil {
		return nil, err
	}
	return lock, nil
}

func (k *Lock) get(l *Locker, ctx context.Context, terms queue.Terms) error {
	if l.isZero() {
		return acquireError(k.name, errZeroLocker)
	}
	k.call.begin(l, ctx, k.name, terms.Timeout)
	err := l.check(ctx, k.name, terms.Timeout)
	if err == nil {
		k.grant, err = l.queue.Acquire(ctx, l.namespace+k.name, terms, &k.call)
	}
	if err != nil {
		err = l.explain(k.name, err)
	}
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
	ctx   context.Context // of Acquire
	seen  *sighting       // of Acquire
	call  call
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
	err := k.grant.Release()
	if err != nil {
		err = &Error{Op: OpRelease, Name: k.name, Err: err}
	}
	if first := k.call.released(err); first {
		k.seen.released(k.ctx, err, nil, false)
	}
	return err
}

func (k *Lock) lost(cause error) error {
	k.call.lost()
	return &Error{Op: OpHold, Name: k.name, Err: cause}
}
