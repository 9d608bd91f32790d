package namedlock

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/session"
)

// An Option changes a default of New or Open. A value that is out of range is an
// error from there.
type Option func(*options) error

type options struct {
	namespace string
	lease     *time.Duration // nil: the default of New or Open
	handOff   time.Duration
	hooks     []Hooks
	sessions  session.Config
}

func collect(opts []Option, lease time.Duration) (options, error) {
	o := options{
		sessions: session.Config{
			ReleaseTimeout: 5 * time.Second,
			KeepAlive:      5 * time.Second,
			Probe:          25 * time.Millisecond,
			CheckServer:    true,
			Logger:         slog.New(slog.DiscardHandler),
		},
	}
	for i, opt := range opts {
		if opt == nil {
			return o, fmt.Errorf("namedlock: option %d is nil", i)
		}
		if err := opt(&o); err != nil {
			return o, err
		}
	}
	o.sessions.Lease = lease
	if o.lease != nil {
		o.sessions.Lease = *o.lease
	}
	return o, nil
}

// atLeast returns an error unless d is at least least, or 0 where zero says what that does.
// What is positive and less is a number whose unit was forgotten.
func atLeast(option string, d, least time.Duration, zero string) error {
	switch {
	case d >= least, d == 0 && zero != "":
		return nil
	case d < 0 && zero != "":
		return fmt.Errorf("namedlock: %s(%v): must not be negative; 0 %s", option, d, zero)
	case d <= 0:
		return fmt.Errorf("namedlock: %s(%v): must be positive", option, d)
	}
	return fmt.Errorf("namedlock: %s(%v): must be at least %v; a number without a unit counts nanoseconds: write 5*time.Second, not 5", option, d, least)
}

// WithReleaseTimeout bounds RELEASE_LOCK. When it has passed the session is
// discarded, which frees the lock too, and the release reports [ErrLost]. Before it,
// a release may have to wait for another statement on its session, of which none
// of the Locker's takes longer than a second or two while the server answers. The default
// is 5s, the least 10ms.
func WithReleaseTimeout(d time.Duration) Option {
	return func(o *options) error {
		if err := atLeast("WithReleaseTimeout", d, 10*time.Millisecond, ""); err != nil {
			return err
		}
		o.sessions.ReleaseTimeout = d
		return nil
	}
}

// WithKeepAlive sets how often a session that holds locks proves, by a statement,
// that it still holds them and that the server can be written to; where a third of
// the session's wait_timeout, of the lease, or of a limit for idle transactions
// ([WithLease]) is less, it is that. What the socket
// does not show (a silent network, a lock that has gone from a living session, a
// primary that has become a replica) is noticed within two of these. The default
// is 5s, the least 10ms.
func WithKeepAlive(d time.Duration) Option {
	return func(o *options) error {
		if err := atLeast("WithKeepAlive", d, 10*time.Millisecond, ""); err != nil {
			return err
		}
		o.sessions.KeepAlive = d
		return nil
	}
}

// WithProbe sets how often the sockets of sessions that hold locks are looked at,
// which costs a microsecond and no traffic. It shows at once that the server has
// closed a session. On Linux the kernel tells of that by itself, and a look is taken
// when it does, and every quarter of a second. 0 turns both off; they are off anyway
// for drivers other than go-sql-driver, behind a wrapper that hides it ([WithUnwrap]),
// under its DSN parameter
// checkConnLiveness=false, and where a custom dialer returns connections that are no
// syscall.Conn. While rows of a query are open on the session (in a transaction, or on a
// connection given to New), the kernel alone can report it: on Linux, after the rows that
// the server had sent. Elsewhere a loss shows then when the rows are read to their end, or closed.
// The default is 25ms, the least 100µs.
func WithProbe(d time.Duration) Option {
	return func(o *options) error {
		if err := atLeast("WithProbe", d, 100*time.Microsecond, "turns the probe off"); err != nil {
			return err
		}
		o.sessions.Probe = d
		return nil
	}
}

// WithUnwrap gives the Locker a function that returns the connection beneath a
// wrapper around the driver (for tracing, for example), or nil for a connection that
// it does not recognize. Statements still go through the wrapper. The Locker looks at
// the socket and the status flags of go-sql-driver's connection beneath it, and closes
// its socket, so that a loss shows as soon as without the wrapper.
//
// Most wrappers need no function. The Locker itself follows a method
// Raw() driver.Conn, a method WrappedConn() driver.Conn, and the exported fields of
// a struct if they contain exactly one driver.Conn. It goes on until it finds the
// connection of go-sql-driver, through ten wrappers at most, and asks unwrap first at
// each. The documentation's [GUIDE.md] has a table of wrappers, with a function for
// those that need one.
//
// unwrap must return the connection that every statement on its argument goes to:
// the Locker closes the socket of what it finds. It is called once for each
// connection, and must neither use the connection nor block. If it panics, or runs
// for more than a second, the error is logged, and the connection counts as one
// that cannot be seen.
//
// [GUIDE.md]: https://github.com/go-namedlock/namedlock/blob/main/docs/GUIDE.md#behind-a-wrapper
func WithUnwrap(unwrap func(driver.Conn) driver.Conn) Option {
	return func(o *options) error {
		if unwrap == nil {
			return errors.New("namedlock: WithUnwrap(nil): leave the option out if there is nothing to unwrap")
		}
		o.sessions.Unwrap = unwrap
		return nil
	}
}

// WithLease sets how long the server waits for a word of a session before it gives
// its locks away: the locks of a machine that has lost its power or its network are
// free after that. A holder that is cut off learns of it before, through its
// context. It is rounded down to whole seconds and set as the session's
// wait_timeout, unless that is shorter; it is set back when the session is over. 0
// leaves wait_timeout alone. The default is 1m with Open, 0 with New.
//
// MariaDB has other limits for a session that is idle in a transaction:
// idle_transaction_timeout, idle_readonly_transaction_timeout and
// idle_write_transaction_timeout. Before the first transaction on a session
// ([Locker.WithLockTx], [Term.WithTx]), those that are longer than the lease are
// set to it, and set back when the session is over. Those that are shorter stay,
// and keep-alives take them into account.
//
// COMMIT and ROLLBACK may each take half of the lease, or of a limit that is
// shorter, and at most 35 s, so that the holder is told of a silent network before
// the server frees the lock.
func WithLease(d time.Duration) Option {
	return func(o *options) error {
		if err := atLeast("WithLease", d, time.Second, "leaves wait_timeout alone"); err != nil {
			return err
		}
		if d > 365*24*time.Hour {
			return fmt.Errorf("namedlock: WithLease(%v): must be a year at most", d)
		}
		o.lease = &d
		return nil
	}
}

// WithHandOff lets callers of this Locker pass a lock on among themselves, without
// the server, for at most d since the server granted it. Then it is released, and
// queued for again behind the waiters of other processes. It makes a lock that many
// goroutines of one process want many times as fast, and is off by default, as is a
// d of 0, because it changes two things:
//
//   - Fairness. Callers of one process are served first come first served as ever,
//     but overtake those of other processes, who wait for up to d longer.
//   - Proof. What proves that the lock was held to the end of a section is, in the
//     middle of such a run, a look at the socket rather than RELEASE_LOCK, which
//     comes at the end of the run and speaks for its last section. A network takes its
//     time to tell that a session has ended, by a KILL say: a section that ends in the
//     meantime returns nil, though others may have had the lock by then.
//
// A lock is passed on only to a caller who wrote its name byte for byte the same,
// with no other lock in either's call chain or on the session, and only where the
// socket can be seen ([WithProbe] says where that is). The technique is lock cohorting:
// Dice, Marathe and Shavit, PPoPP 2012. 10ms is a good value for d.
func WithHandOff(d time.Duration) Option {
	return func(o *options) error {
		if err := atLeast("WithHandOff", d, 100*time.Microsecond, "turns it off"); err != nil {
			return err
		}
		o.handOff = d
		return nil
	}
}

// WithMaxSessions limits how many sessions of a Locker from [Open] serve locks
// whose code needs a second connection of the db: the locks of [Locker.WithLock],
// [Locker.Acquire], [Locker.WithLocks] and [Locker.WithSlot]. The default is half of the db's
// MaxOpenConns, but at least 2, or 16 if that is unlimited. n must be less than
// MaxOpenConns; otherwise Open returns an error. With [New] there is one session.
//
// # What counts
//
//   - A lock that is held counts 1. Locks nested in it count 0.
//   - A name that callers of the Locker wait for counts 1, however many they are. This
//     includes the name of a [Locker.WithLockTx], until that has its lock.
//   - A WithLockTx or [Locker.WithTerm] that has its lock does not count, nor does a [Locker.Lead],
//     whether it waits or leads: their code has the connection of the lock.
//   - The callers of [Locker.WithSlot] that wait for a name count as those that wait
//     for a lock, and one of them, which looks for a free slot, counts 1.
//   - [Locker.Holder], [Locker.Holders] and [Locker.Check] do not count. Each
//     borrows one connection more for a moment. So does the end of a wait, to name
//     the holder, if the db has another to spare.
//
// # Beyond the cap
//
// Nothing fails beyond the cap. Locks share sessions: a KILL then takes several of
// them, and the server cannot see deadlocks between those that share. A name for
// which there is no session to wait on is polled every 50 ms or less often, and
// does not have a place in the server's queue.
//
// # The db's connections
//
// All Lockers of one *sql.DB, with their transactions and Leads, together leave it
// one connection, for the code under the locks. MaxOpenConns is read again
// whenever a session is needed, and the cap is never more than what it leaves:
// MaxOpenConns − 1 − the number of Leads, but at least 1.
//
// A WithLockTx is bounded by MaxOpenConns alone, or, if that is unlimited, by the
// server's max_connections. One that is called under a lock, while no other
// transaction or Lead of the Locker has a session, may have the last connection:
// its code needs no other.
//
// A call for which no session is free waits, within its timeout, and then returns
// [ErrNoSession].
func WithMaxSessions(n int) Option {
	return func(o *options) error {
		if n < 1 {
			return fmt.Errorf("namedlock: WithMaxSessions(%d): must be at least 1", n)
		}
		o.sessions.MaxSessions = n
		return nil
	}
}

// WithNamespace puts prefix in front of every name on its way to the server:
// names are one per server, not one per schema. It counts towards the 64
// characters of a name. Error.Name, [Lock.Name] and hooks have names without it.
func WithNamespace(prefix string) Option {
	return func(o *options) error {
		if err := names.Check(prefix + "x"); err != nil {
			return fmt.Errorf("namedlock: WithNamespace(%s): no lock name fits after it: %w", strconv.Quote(prefix), err)
		}
		o.namespace = prefix
		return nil
	}
}

// WithLogger has what a person on call would want to know written to l. Errors: a
// session that was lost with its locks, a lock that its release found lost, a hook
// that panicked, a transaction that had ended before its code panicked. Warnings: a call that
// has waited for 5 s for a lock (once a minute for each name) or for a session (once a minute), a
// Close that has waited for so long for locks that are held, a connection that was
// discarded, locks that other code had left on a pooled connection, or that the code under a
// lock had taken by hand, a driver behind which a loss shows late. Infos: a lock acquired after such a wait, a term of Lead. The default logs nothing.
//
// Lines are written by a goroutine of their own, a moment after the event, with the time of
// the event: a handler that blocks or panics holds nobody up. If 10,000 lines are pending,
// further ones are dropped (Stats counts them). Close waits for them, for 5 s at most.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) error {
		if l == nil {
			return errors.New("namedlock: WithLogger(nil): leave the option out to log nothing")
		}
		o.sessions.Logger = l
		return nil
	}
}

// WithoutServerCheck takes the server as it is, be it a node of a cluster whose
// locks do not exclude, or read-only. A Locker from New then sends no greeting
// before the first lock either, unless it has a lease to set: an uncontended lock
// is exactly its two statements, locks that other code has left on the connection
// are not dropped, and its wait_timeout is not known before the first keep-alive.
func WithoutServerCheck() Option {
	return func(o *options) error {
		o.sessions.CheckServer = false
		return nil
	}
}
