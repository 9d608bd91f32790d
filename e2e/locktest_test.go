package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/go-namedlock/namedlock/locktest"
)

// Package locktest promises the behavior of a Locker on a server. Each script
// runs on a server and in locktest, and must give the same results, the same
// errors and the same calls of hooks, in the same order.
func TestLocktestIsAsAServer(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		db := srv.open(t)
		for seed := range uint64(30) {
			prefix := newName("script") + ":"
			table := srv.table(t, "n INT")
			real := play(t, seed, srv.Kind() == servers.MySQL, db, table, func(opts ...namedlock.Option) locks {
				l, err := namedlock.Open(srv.open(t), append(opts, namedlock.WithNamespace(prefix))...)
				require.NoError(t, err)
				return l
			}, func(_ locks, name string, held []string) {
				killed, err := locksql.Holder(background, srv.admin, prefix+name)
				require.NoError(t, err)
				require.NoError(t, locksql.Kill(background, srv.admin, killed))
				for _, name := range held {
					eventually(t, func() bool {
						id, err := locksql.Holder(background, srv.admin, prefix+name)
						return err == nil && id != killed
					}, "%s is free", name)
				}
				eventually(t, func() bool {
					var sessions int
					err := srv.admin.QueryRowContext(background, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE ID = ?", killed).Scan(&sessions)
					return err == nil && sessions == 0
				}, "session %d has ended, and its slots are free", killed)
			})

			memory := locktest.New(namedlock.WithNamespace(prefix))
			memory.TxFrom(db)
			double := play(t, seed, srv.Kind() == servers.MySQL, db, table, func(opts ...namedlock.Option) locks {
				return memory.Peer(opts...)
			}, func(l locks, name string, _ []string) { l.(*locktest.Locker).Lose(name) })
			require.NoError(t, memory.Close())

			require.Equal(t, real, double, "script %d: the server, and locktest", seed)
		}
	})
}

// locks are the methods that a script calls.
type locks interface {
	namedlock.Interface
	namedlock.TxInterface
	namedlock.LeadInterface
	namedlock.SlotInterface
	WithLocks(ctx context.Context, names []string, timeout time.Duration, fn func(ctx context.Context) error) error
	WithTerm(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context, term *namedlock.Term) error) error
	Acquire(ctx context.Context, name string, timeout time.Duration) (*namedlock.Lock, error)
	Holder(ctx context.Context, name string) (namedlock.Holder, bool, error)
	Shutdown(ctx context.Context) error
	Stats() namedlock.Stats
}

// A script is a random program of two processes. All of its randomness is in
// its seed.
type script struct {
	rand    *rand.Rand
	cases   bool // names may differ in letter case
	table   string
	lose    func(l locks, name string, held []string)
	locks   []locks
	held    [][]string // of each process: the locks, the innermost last
	apart   [2]int     // of each process: transactions, terms and leaders under other locks
	results []string
	rows    int
}

var errScript = fmt.Errorf("own")

// play runs a script, and returns its results.
func play(t *testing.T, seed uint64, cases bool, db *sql.DB, table string, open func(...namedlock.Option) locks, lose func(locks, string, []string)) []string {
	t.Helper()
	_, err := db.Exec("DELETE FROM " + table)
	require.NoError(t, err)
	s := &script{rand: rand.New(rand.NewPCG(seed, 0)), cases: cases, table: table, lose: lose, held: make([][]string, 2)}
	for who := range 2 {
		s.locks = append(s.locks, open(namedlock.WithHooks(s.hooks(who))))
	}
	for range 12 {
		s.call(t.Context(), 0)
	}
	bounded, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for who, l := range s.locks {
		stats := l.Stats()
		s.say("%d: held %d, acquired %d, timeouts %d, failed %d, lost %d", who, stats.Held, stats.Acquired, stats.Timeouts, stats.Failed, stats.Lost)
		s.say("%d: shutdown: %v", who, l.Shutdown(bounded))
		s.say("%d: closed: %s", who, about(l.WithLock(t.Context(), "a", 0, func(context.Context) error { return nil })))
	}
	count := 0
	require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+table).Scan(&count))
	s.say("rows: %d", count)
	return s.results
}

func (s *script) say(format string, args ...any) {
	s.results = append(s.results, fmt.Sprintf(format, args...))
}

// hooks report their events, without times.
func (s *script) hooks(who int) namedlock.Hooks {
	enter := func(what string) func(context.Context, namedlock.Event) context.Context {
		return func(_ context.Context, e namedlock.Event) context.Context {
			s.say("%d: %s: %s %s %v", who, what, e.Method, e.Name, e.Names)
			return nil
		}
	}
	return namedlock.Hooks{
		AcquireStarted: enter("started"),
		Acquired:       enter("acquired"),
		Failed: func(_ context.Context, e namedlock.Event) {
			s.say("%d: failed: %s %s: %s", who, e.Method, e.Name, about(e.Err))
		},
		Released: func(ctx context.Context, e namedlock.Event) {
			s.say("%d: released: %s %s %d: %s, returned %s, panicked %t, ctx %v", who, e.Method, e.Name, e.Slot, about(e.Err), about(e.Returned), e.Panicked, ctx.Err())
		},
	}
}

// about describes an error without what differs between servers: texts, and
// holders.
func about(err error) string {
	switch e := err.(type) {
	case nil:
		return "nil"
	case *namedlock.Error:
		text := fmt.Sprintf("%s %q", e.Op, e.Name)
		if e.Tx != namedlock.TxNone {
			text += " (" + e.Tx.String() + ")"
		}
		return text + " " + namedlock.ErrorType(e)
	case interface{ Unwrap() []error }:
		var all []string
		for _, part := range e.Unwrap() {
			all = append(all, about(part))
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	switch {
	case err == errScript, err == sql.ErrTxDone, err == context.Canceled:
		return err.Error()
	}
	return namedlock.ErrorType(err)
}

func (s *script) name() string {
	name := string("abcd"[s.rand.IntN(4)])
	if s.cases && s.rand.IntN(4) == 0 {
		name = strings.ToUpper(name)
	}
	return name
}

// call makes a call for locks.
func (s *script) call(ctx context.Context, depth int) (err error) {
	who := s.rand.IntN(len(s.locks))
	l, name, what := s.locks[who], s.name(), s.rand.IntN(14)
	timeout := []time.Duration{0, 0, 0, 20 * time.Millisecond, -1}[s.rand.IntN(5)]
	if s.rand.IntN(12) == 0 {
		name = strings.Repeat("ä", 65)
	}
	if s.rand.IntN(12) == 0 {
		ended, end := context.WithCancelCause(ctx)
		end(errScript)
		ctx = ended
	}
	if depth == 4 {
		what = 13
	}
	defer func() {
		if value := recover(); value != nil {
			s.say("%d: panic: %v", who, value)
			err = errScript
		}
	}()
	code := func(ctx context.Context) error { return s.code(ctx, who, depth, name) }
	if slices.Contains([]int{7, 8, 9, 11}, what) && len(s.held[who]) > 0 {
		s.apart[who]++
		defer func() { s.apart[who]-- }()
	}
	switch what {
	case 0, 1, 2:
		err = l.WithLock(ctx, name, timeout, code)
	case 3, 4:
		names := []string{name, s.name(), s.name()}[:1+s.rand.IntN(3)]
		err = l.WithLocks(ctx, names, timeout, func(ctx context.Context) error { return s.code(ctx, who, depth, names...) })
	case 5, 6:
		n := 1 + s.rand.IntN(2)
		err = l.WithSlot(ctx, name, n, timeout, func(ctx context.Context, slot int) error {
			return s.code(ctx, who, depth, fmt.Sprintf("%s#%d", name, slot))
		})
	case 7, 8:
		err = l.WithLockTx(ctx, name, timeout, nil, func(ctx context.Context, tx *sql.Tx) error { return s.tx(ctx, tx, who, depth, name) })
	case 9:
		err = l.WithTerm(ctx, name, timeout, func(ctx context.Context, term *namedlock.Term) error {
			for range 1 + s.rand.IntN(2) {
				s.say("%d: in a term: %s", who, about(term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error { return s.tx(ctx, tx, who, depth) })))
			}
			return s.code(ctx, who, depth, name)
		})
	case 10:
		var lock *namedlock.Lock
		if lock, err = l.Acquire(ctx, name, timeout); err == nil {
			func() {
				defer func() { err = lock.Release() }()
				s.say("%d: code: %s", who, about(s.code(lock.Context(), who, depth, name)))
			}()
			s.say("%d: again: %s, %v", who, about(lock.Release()), lock.Context().Err())
		}
	case 11:
		if slices.ContainsFunc(s.held[1-who], func(held string) bool { return strings.EqualFold(held, name) }) {
			return nil // it would wait for its own goroutine
		}
		brief, cancel := context.WithCancel(ctx)
		terms := 0
		err = l.Lead(brief, name, func(ctx context.Context, term *namedlock.Term) error {
			defer func() {
				if terms++; terms == 2 {
					cancel()
				}
			}()
			s.say("%d: leads: %s", who, about(term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error { return s.tx(ctx, tx, who, depth) })))
			return s.code(ctx, who, depth, name)
		})
		cancel()
	default:
		h, held, err := l.Holder(ctx, name)
		s.say("%d: holder of %s: %t %t %s", who, name, held, h.Local, about(err))
		return err
	}
	s.say("%d: call %d of %q in %v: %s", who, what, name, timeout, about(err))
	return err
}

// code runs under locks.
func (s *script) code(ctx context.Context, who, depth int, names ...string) (err error) {
	before := len(s.held[who])
	s.held[who] = append(s.held[who], names...)
	defer func() { s.held[who] = s.held[who][:before] }()
	s.say("%d: under %q: %v", who, names, ctx.Err())
	for range s.rand.IntN(3) {
		if nested := s.call(ctx, depth+1); s.rand.IntN(3) == 0 {
			err = nested
		}
	}
	switch s.rand.IntN(8) {
	case 0:
		err = errScript
	case 1:
		panic(errScript)
	case 2:
		// A transaction under another lock uses its session, unless the watch is
		// just probing that. So the locks that are lost together are not certain.
		if ctx.Err() == nil && s.apart[who] == 0 {
			s.lose(s.locks[who], names[s.rand.IntN(len(names))], s.held[who])
			select {
			case <-ctx.Done():
				s.say("%d: lost: %s", who, namedlock.ErrorType(context.Cause(ctx))) // of any of the session's locks
			case <-time.After(patience):
				s.say("%d: never lost", who)
			}
		}
	}
	return err
}

// tx runs in a transaction, under names unless it is one of a term.
func (s *script) tx(ctx context.Context, tx *sql.Tx, who, depth int, names ...string) error {
	s.rows++
	_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s VALUES (%d)", s.table, s.rows))
	s.say("%d: insert: %t", who, err == nil)
	var n int
	err = tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+s.table).Scan(&n)
	s.say("%d: select: %t %d", who, err == nil, n)
	switch s.rand.IntN(8) {
	case 0:
		s.say("%d: commit: %t", who, tx.Commit() == nil)
	case 1:
		s.say("%d: rollback: %t", who, tx.Rollback() == nil)
	}
	if len(names) > 0 {
		err = s.code(ctx, who, depth, names...)
	} else if s.rand.IntN(4) == 0 {
		err = errScript
	} else {
		err = nil
	}
	_, late := tx.ExecContext(ctx, "INSERT INTO "+s.table+" VALUES (?)", -s.rows)
	s.say("%d: insert late: %t", who, late == nil)
	return err
}
