package namedlock

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/go-namedlock/namedlock/internal/names"
	"github.com/go-namedlock/namedlock/internal/pool"
	"github.com/go-namedlock/namedlock/internal/server"
)

// An Option changes a default of [New] or [Open]. If its value is out of range,
// New or Open returns an error.
type Option func(*options) error

type options struct {
	namespace string
	lease     *time.Duration // nil: the default of New or Open
	handOff   time.Duration
	hooks     []Hooks
	sessions  pool.Config
}

func collect(opts []Option, lease time.Duration) (options, error) {
	o := options{
		sessions: pool.Config{Config: server.Config{
			ReleaseTimeout: 5 * time.Second,
			KeepAlive:      5 * time.Second,
			Probe:          25 * time.Millisecond,
			CheckServer:    true,
			Logger:         slog.New(slog.DiscardHandler),
		}},
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

// atLeast returns an error unless d is at least least. It accepts 0 if zero is
// not empty; zero is the text that says what 0 does. A positive d below least
// is usually a number without a unit.
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

const year = 365 * 24 * time.Hour

// WithReleaseTimeout limits how long the server may take to answer
// RELEASE_LOCK. After d the session is discarded, which also frees the lock,
// and the release returns [ErrLost]. The default is 5s, the minimum 10ms.
//
// A release may first wait for another statement on its session. That time does
// not count. If it is a statement of the Locker, it takes at most 2 s while the
// server answers. COMMIT and ROLLBACK may take longer (see [WithLease]).
func WithReleaseTimeout(d time.Duration) Option {
	return func(o *options) error {
		if err := atLeast("WithReleaseTimeout", d, 10*time.Millisecond, ""); err != nil {
			return err
		}
		o.sessions.ReleaseTimeout = d
		return nil
	}
}

// WithKeepAlive sets the keep-alive interval. At this interval a session that
// holds locks proves, by a statement, that it still holds them and that the
// server is not read-only. The default is 5s, the minimum 10ms. More than a
// year counts as a year.
//
// The interval is shorter if a third of one of these is shorter: the session's
// wait_timeout, the lease, or a limit for idle transactions (see [WithLease]
// for both).
//
// Some losses do not show at the socket: the network has gone silent, a living
// session no longer holds the lock, or a primary has become a replica. They are
// noticed within two intervals. Exceptions are a COMMIT or ROLLBACK (see
// WithLease) and another statement of a transaction: no keep-alive is sent
// during these. Such a loss is then noticed after the statement has ended.
func WithKeepAlive(d time.Duration) Option {
	return func(o *options) error {
		if err := atLeast("WithKeepAlive", d, 10*time.Millisecond, ""); err != nil {
			return err
		}
		o.sessions.KeepAlive = min(d, year)
		return nil
	}
}

// WithProbe sets how often the sockets of sessions that hold locks are checked.
// A check shows at once that the server has closed a session. It costs about
// 1µs and no traffic. The default is 25ms, the minimum 100µs.
//
// On Linux the kernel reports the close. A check is then made when it does, and
// at least every 250 ms. WithProbe(0) turns off the checks and these reports.
//
// A socket cannot be checked in these cases, and a loss is then noticed by
// keep-alives ([WithKeepAlive]):
//
//   - The driver is not go-sql-driver, or a wrapper hides it (see
//     [WithUnwrap]).
//   - The DSN has checkConnLiveness=false.
//   - A custom dialer returns connections that are not a syscall.Conn.
//   - The system is Windows, Plan 9, js or wasip1, where go-sql-driver does not
//     check sockets.
//
// While rows of a query are open on the session, only the Linux kernel can
// report a loss, after the rows that the server had sent. (Rows can be open in
// a transaction, or on a connection given to [New].) On other systems the loss
// shows when the rows have been read to their end, or are closed.
func WithProbe(d time.Duration) Option {
	return func(o *options) error {
		if err := atLeast("WithProbe", d, 100*time.Microsecond, "turns the probe off"); err != nil {
			return err
		}
		o.sessions.Probe = d
		return nil
	}
}

// WithUnwrap sets a function that returns the connection beneath a wrapper
// around the driver (for tracing, for example). With it, losses are noticed as
// soon as without the wrapper. Statements still go through the wrapper. The
// Locker uses go-sql-driver's connection beneath it to check the socket, to
// read the status flags, and to close the socket.
//
// Most wrappers need no function. The Locker itself follows a method Raw()
// driver.Conn, a method WrappedConn() driver.Conn, and the exported fields of a
// struct if they contain exactly one driver.Conn. It goes on until it finds the
// connection of go-sql-driver, through at most ten wrappers. At each wrapper it
// calls unwrap first. The guide has a table of wrappers, with a function for
// those that need one:
// https://github.com/go-namedlock/namedlock/blob/main/docs/GUIDE.md#behind-a-wrapper
//
// unwrap must return the connection that receives every statement of its
// argument, because the Locker closes the socket of the connection that it
// finds. For a connection that it does not recognize, unwrap must return nil.
// It must neither use the connection nor block. The Locker searches once for
// each connection. If unwrap panics, or the search takes longer than 1 s, the
// error is logged, and the connection counts as hidden (see [WithProbe]).
func WithUnwrap(unwrap func(driver.Conn) driver.Conn) Option {
	return func(o *options) error {
		if unwrap == nil {
			return errors.New("namedlock: WithUnwrap(nil): leave the option out if there is nothing to unwrap")
		}
		o.sessions.Unwrap = unwrap
		return nil
	}
}

// WithLease sets how long the server keeps the locks of a session from which it
// receives nothing. So the locks of a machine that has lost its power or its
// network are free after d. A holder that is cut off is told before that, by
// the end of its context. The default is 1m with [Open], 0 with [New]. The
// minimum is 1s, the maximum 365 days.
//
// The Locker sets the session's wait_timeout to d, rounded down to whole
// seconds, unless wait_timeout is already shorter. It restores wait_timeout
// when the session is over. With [New] that is at [Locker.Close]: a value that
// you have set in the meantime is lost then.
//
// 0 leaves wait_timeout unchanged. If a machine vanishes, the server then keeps
// its locks for hours. They end with the session, by wait_timeout (8 h by
// default) or the server's TCP keep-alive (2 h 11 min by default on Linux).
//
// # Transactions
//
// COMMIT and ROLLBACK may each take half of the lease, or half of a shorter
// limit of the server, and at most 35 s. The holder is therefore told that the
// network has gone silent before the server frees the lock.
//
// MariaDB has three other limits for a session that is idle in a transaction:
// idle_transaction_timeout, idle_readonly_transaction_timeout and
// idle_write_transaction_timeout. Before the first transaction on a session
// ([Locker.WithLockTx], [Term.WithTx]), limits that are longer than the lease
// are set to it. They are restored when the session is over. Shorter limits
// stay, and keep-alives take them into account.
func WithLease(d time.Duration) Option {
	return func(o *options) error {
		if err := atLeast("WithLease", d, time.Second, "leaves wait_timeout alone"); err != nil {
			return err
		}
		if d > year {
			return fmt.Errorf("namedlock: WithLease(%v): must be a year at most", d)
		}
		o.lease = &d
		return nil
	}
}

// WithHandOff lets callers of this Locker pass a lock to each other without
// asking the server, for at most d after the server granted it. Then the Locker
// releases the lock and queues for it again, behind waiters in other processes.
// It is for a lock that many goroutines of one process want: bench/RESULTS.md
// has the locks per second with and without it. A good value is 10ms, the
// minimum 100µs. The default, 0, turns it off, because hand-off has two costs:
//
//   - Fairness. Callers in this process are still served in order, but they
//     overtake waiters in other processes, which wait for up to d longer.
//   - Proof. Without hand-off, RELEASE_LOCK proves that the lock was held until
//     fn returned. With hand-off, RELEASE_LOCK comes at the end of a run of
//     calls and proves only the last one. For the other calls the Locker checks
//     that the socket is still open. After a KILL, for example, the close takes
//     time to travel through the network. A call whose fn returns in that time
//     returns nil, although another process may already hold the lock.
//
// A lock is passed on only if all of these are true:
//
//   - The next caller spelled the name identically, byte for byte.
//   - Neither caller holds another lock, and no other lock is on the session.
//   - The socket can be checked (see [WithProbe]).
//   - Neither call is a [Locker.WithLockTx], [Locker.WithTerm],
//     [Locker.WithSlot] or [Locker.Lead].
//
// The technique is known as lock cohorting: Dice, Marathe and Shavit, PPoPP
// 2012.
func WithHandOff(d time.Duration) Option {
	return func(o *options) error {
		if err := atLeast("WithHandOff", d, 100*time.Microsecond, "turns it off"); err != nil {
			return err
		}
		o.handOff = d
		return nil
	}
}

// WithMaxSessions sets the cap: how many sessions a Locker from [Open] uses for
// locks whose code needs a second connection of the db. These are the locks of
// [Locker.WithLock], [Locker.Acquire], [Locker.WithLocks] and
// [Locker.WithSlot]. The default is half of the db's MaxOpenConns, but at least
// 2, or 16 if MaxOpenConns is unlimited. n must be at least 1 and less than
// MaxOpenConns; otherwise Open returns an error. With [New] there is one
// session.
//
// # What counts towards the cap
//
//   - A lock that is held counts 1. Locks nested in it count 0.
//   - A name for which callers of the Locker wait counts 1, however many wait.
//     This includes the name of a [Locker.WithLockTx] that waits for its lock.
//   - A WithLockTx or [Locker.WithTerm] that holds its lock does not count. Nor
//     does a [Locker.Lead], whether it waits or leads. Their code uses the
//     connection of the lock.
//   - Callers of WithSlot that wait for a name count 1, however many wait. The
//     one of them that looks for a free slot counts 1 more.
//   - [Locker.Holder], [Locker.Holders] and [Locker.Check] do not count. Each
//     borrows one more connection for a moment. So does the end of a wait, to
//     name the holder, if the db has another to spare.
//
// # Beyond the cap
//
// Calls do not fail because of the cap: locks share sessions. A KILL of a
// shared session takes all locks on it. The server cannot see deadlocks between
// locks that share a session. If there is no session to wait for a name, the
// name is polled, every 50 ms or less often. It then has no place in the
// server's queue.
//
// # The db's connections
//
// All Lockers of one *sql.DB, with their transactions and Leads, together leave
// it one connection, for the code under the locks. MaxOpenConns is read again
// whenever a session is needed. The cap is never more than MaxOpenConns − 1 −
// the number of Leads, but at least 1.
//
// A WithLockTx is limited only by MaxOpenConns, or, if that is unlimited, by
// the server's max_connections. If it is called under a lock, it may take the
// last connection, because its code needs no other. This holds while no other
// transaction or Lead of the Locker has a session.
//
// A call for which no session is free waits, within its timeout, and then
// returns [ErrNoSession].
func WithMaxSessions(n int) Option {
	return func(o *options) error {
		if n < 1 {
			return fmt.Errorf("namedlock: WithMaxSessions(%d): must be at least 1", n)
		}
		o.sessions.MaxSessions = n
		return nil
	}
}

// WithNamespace adds prefix in front of every name that is sent to the server.
// It keeps applications apart, because names are shared by the whole server,
// not by one schema. prefix counts towards the 64 characters of a name.
// Error.Name, [Lock.Name] and hooks have names without it.
func WithNamespace(prefix string) Option {
	return func(o *options) error {
		if err := names.Check(prefix + "x"); err != nil {
			return fmt.Errorf("namedlock: WithNamespace(%s): no lock name fits after it: %w", strconv.Quote(prefix), err)
		}
		o.namespace = prefix
		return nil
	}
}

// WithLogger writes events to l. The default logs nothing. docs/OPERATIONS.md
// lists the log lines.
//
// These are errors:
//
//   - A session was lost with its locks, or a release found its lock lost.
//   - Code panicked after its lock was lost, or after its transaction had
//     ended.
//   - A hook, a context, the function of [WithUnwrap] or a wrapper panicked, or
//     the search beneath a wrapper took longer than 1 s.
//
// These are warnings:
//
//   - A call with a timeout of 6 s or more has waited for a lock for 5 s. There
//     is at most one line a minute for each name.
//   - A call has failed after it waited for a lock for 5 s.
//   - A call has waited for a session for 5 s. There is at most one line a
//     minute.
//   - Close or Shutdown has waited for held locks for 5 s.
//   - Lead cannot reach a writable server. There is one line for each outage.
//   - A connection was discarded, or cannot be closed, or its wait_timeout
//     could not be restored.
//   - Locks of other code were found on a connection, or code under a lock had
//     taken locks with GET_LOCK.
//   - The lease has no effect, or losses will be noticed late.
//
// These are infos:
//
//   - A lock was acquired after a wait of 5 s or more.
//   - A term of Lead began.
//   - A leader's function returned an error after a loss.
//
// A separate goroutine writes the lines, a moment after the event, with the
// time of the event. So a handler that blocks or panics delays no call. If
// 10,000 lines are pending, further lines are dropped and counted ([Stats]).
// Close waits for pending lines, for at most 5 s.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) error {
		if l == nil {
			return errors.New("namedlock: WithLogger(nil): leave the option out to log nothing")
		}
		o.sessions.Logger = l
		return nil
	}
}

// WithoutServerCheck accepts any server, even one that is read-only or a node
// of a cluster whose locks do not exclude each other.
//
// A Locker from [New] then sends no greeting before the first lock, unless it
// has a lease to set. An uncontended lock is exactly its two statements. Locks
// that other code has left on the connection are not released, and its
// wait_timeout is not read before the first keep-alive.
func WithoutServerCheck() Option {
	return func(o *options) error {
		o.sessions.CheckServer = false
		return nil
	}
}

// WithHooks adds hooks for the calls of the Locker. If it is given more than
// once, all hooks are called. At the beginning of a call they are called in the
// order in which they were given, and at its end in the reverse order.
func WithHooks(hooks Hooks) Option {
	return func(o *options) error {
		o.hooks = append(o.hooks, hooks)
		return nil
	}
}
