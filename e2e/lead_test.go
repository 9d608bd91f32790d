package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/lateness"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
)

// lead is a worker that leads. It writes row after row. Each row has the number
// after the last row's, which it reads without FOR UPDATE. After the end of its
// term it tries once more.
func lead(ctx context.Context, db *sql.DB, name, table string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	l, err := namedlock.Open(db, namedlock.WithLease(seconds(2*time.Second)), namedlock.WithKeepAlive(often()))
	if err != nil {
		return err
	}
	defer l.Close()
	terms := 0
	err = l.Lead(ctx, name, func(leading context.Context, term *namedlock.Term) error {
		terms++
		t := ticker{term, table, fmt.Sprintf("%d/%d", os.Getpid(), terms)}
		for leading.Err() == nil {
			_ = t.tick(leading)
			time.Sleep(2 * time.Millisecond) // the pace of the rows
		}
		if err := t.tick(background); !errors.Is(err, namedlock.ErrLost) {
			return fmt.Errorf("after the end of the term: %w", err)
		}
		return nil
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// A ticker writes rows in a term.
type ticker struct {
	term   *namedlock.Term
	table  string
	writer string
}

func (k ticker) tick(ctx context.Context) error {
	return k.term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT COALESCE(MAX(n), 0) FROM "+k.table).Scan(&n); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s VALUES (%d, '%s', CONNECTION_ID())", k.table, n+1, k.writer))
		return err
	})
}

// candidates are three processes that call Lead for the same name.
type candidates struct {
	t     *testing.T
	srv   *server
	name  string
	table string
	of    map[string]*exec.Cmd // by process id
}

func (srv *server) candidates(t *testing.T) *candidates {
	t.Helper()
	c := &candidates{t: t, srv: srv, name: newName("leader"), of: map[string]*exec.Cmd{}}
	c.table = setup{srv, byOpen}.table(t, "n INT PRIMARY KEY, writer VARCHAR(40), session BIGINT")
	for range 3 {
		cmd, out := setup{srv, byOpen}.worker(t, jobLead, c.name, ""), new(strings.Builder)
		cmd.Env = append(cmd.Env, workerTable+"="+c.table)
		cmd.Stdout, cmd.Stderr = out, out
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			assert.NotContains(t, out.String(), "after the end of the term")
		})
		c.of[fmt.Sprint(cmd.Process.Pid)] = cmd
	}
	return c
}

// A tick is a row of the table.
type tick struct {
	writer  string
	session int64
}

func (k tick) process() string { return strings.Split(k.writer, "/")[0] }

// last returns the newest row. There may be neither a row nor a server.
func (c *candidates) last() (k tick) {
	_ = c.srv.admin.QueryRowContext(background, "SELECT writer, session FROM "+c.table+" ORDER BY n DESC LIMIT 1").Scan(&k.writer, &k.session)
	return k
}

// next returns when a term other than that of before has written.
func (c *candidates) next(before tick) (k tick) {
	c.t.Helper()
	eventually(c.t, func() bool {
		k = c.last()
		return k.writer != "" && k.writer != before.writer
	}, "another leads than %s", before.writer)
	return k
}

// requireTerms checks that no term wrote after the next term began.
func (c *candidates) requireTerms() {
	c.t.Helper()
	rows, err := c.srv.admin.QueryContext(background, "SELECT writer FROM "+c.table+" ORDER BY n")
	require.NoError(c.t, err)
	defer rows.Close()
	var terms []string
	for rows.Next() {
		var writer string
		require.NoError(c.t, rows.Scan(&writer))
		if len(terms) == 0 || terms[len(terms)-1] != writer {
			require.NotContains(c.t, terms, writer, "a term wrote again after another term had begun")
			terms = append(terms, writer)
		}
	}
	require.NoError(c.t, rows.Err())
}

// deposed has the ways in which a leader loses its term.
var deposed = map[string]func(c *candidates, leader tick){
	"SIGTERM": func(c *candidates, leader tick) {
		require.NoError(c.t, c.of[leader.process()].Process.Signal(syscall.SIGTERM))
	},
	"SIGKILL": func(c *candidates, leader tick) { require.NoError(c.t, c.of[leader.process()].Process.Kill()) },
	"KILL": func(c *candidates, leader tick) {
		require.NoError(c.t, locksql.Kill(background, c.srv.admin, leader.session))
	},
}

// However a leader loses its term, another process leads, and the old leader
// writes nothing more.
func TestPromise35_TheNextLeads(t *testing.T) {
	t.Parallel()
	for what, depose := range deposed {
		t.Run(what, func(t *testing.T) {
			onEachServer(t, func(t *testing.T, srv *server) {
				c := srv.candidates(t)
				leader := c.next(tick{})
				depose(c, leader)
				c.next(leader)
				c.requireTerms()
			})
		})
	}
}

// After a clean hand-over or a KILL the next leader writes within 100 ms.
//
// No other test runs at the same time.
func TestPromise35_TheNextLeadsAtOnce(t *testing.T) {
	onEachServer(t, func(t *testing.T, srv *server) {
		for _, what := range []string{"SIGTERM", "KILL"} {
			c := srv.candidates(t)
			leader := c.next(tick{})
			var took time.Duration
			late := lateness.Of(func() {
				began := time.Now()
				deposed[what](c, leader)
				c.next(leader)
				took = time.Since(began)
			})
			// Between the signal and the row in the table there are twice as many hops
			// as lateness counts.
			assert.LessOrEqual(t, took, 100*time.Millisecond+2*late, what)
		}
	})
}

// After a restart or a read-only period of the server there is a leader again.
func TestPromise36_LeadOutlastsAnOutage(t *testing.T) {
	t.Parallel()
	for what, outage := range map[string]func(c *candidates){
		"restart": func(c *candidates) {
			require.NoError(c.t, c.srv.Shutdown())
			require.NoError(c.t, c.srv.Restart())
		},
		"crash": func(c *candidates) {
			require.NoError(c.t, c.srv.Kill())
			require.NoError(c.t, c.srv.Restart())
		},
		"read-only for a while": func(c *candidates) {
			_, err := c.srv.admin.ExecContext(background, "SET GLOBAL read_only = ON")
			require.NoError(c.t, err)
			eventually(c.t, func() bool { return len(c.srv.sessionsAt(c.t, c.name)) == 0 }, "no process leads")
			_, err = c.srv.admin.ExecContext(background, "SET GLOBAL read_only = OFF")
			require.NoError(c.t, err)
		},
	} {
		t.Run(what, func(t *testing.T) {
			onPrivateServers(t, func(t *testing.T, srv *server) {
				c := srv.candidates(t)
				leader := c.next(tick{})
				outage(c)
				c.next(leader)
				c.requireTerms()
			})
		})
	}
}

// A candidate may wait indefinitely without a loss, and a Lead that ends leaves
// nothing behind.
func TestPromise37_TheLockOutlastsFn(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name := at.locker(t, namedlock.WithKeepAlive(calm())), at.foreign(t), newName("leader")
		ctx, cancel := context.WithCancel(t.Context())
		led, mayEnd := make(chan context.Context), make(chan struct{})
		done := inBackground(func() error {
			return l.Lead(ctx, name, func(ctx context.Context, _ *namedlock.Term) error {
				led <- ctx
				<-ctx.Done()
				<-mayEnd
				return nil
			})
		})
		leading := receive(t, led, "the term begins")
		// After a loss the next term begins when fn has returned, and not before.
		f.kill(f.holder(name))
		receive(t, leading.Done(), "the leader is told")
		require.ErrorIs(t, context.Cause(leading), namedlock.ErrLost)
		if at.way == byNew {
			mayEnd <- struct{}{}
			require.ErrorIs(t, receive(t, done, "Lead returns"), namedlock.ErrUnavailable, "there is no connection but the one that New was given")
			cancel()
			return
		}
		// The holder of a killed session is told before the server frees its locks.
		f.lockSoon(name)
		f.unlock(name)
		mayEnd <- struct{}{}
		leading = receive(t, led, "the next term begins")
		// After the end of ctx the lock is held until fn has returned.
		cancel()
		receive(t, leading.Done(), "the leader is told")
		require.NotZero(t, f.holder(name))
		mayEnd <- struct{}{}
		require.ErrorIs(t, receive(t, done, "Lead returns"), context.Canceled)
		require.Zero(t, f.holder(name))
	})
}

// If the lock is lost during a transaction, the transaction is not committed.
// No transaction begins after that.
func TestPromise38_ADeposedLeaderCommitsNothing(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name, table := at.locker(t, namedlock.WithProbe(0), namedlock.WithKeepAlive(time.Minute)), at.foreign(t), newName("leader"), at.table(t, "n INT")
		ctx, cancel := context.WithCancel(t.Context())
		err := l.Lead(ctx, name, func(ctx context.Context, term *namedlock.Term) error {
			defer cancel()
			require.NoError(t, term.WithTx(ctx, nil, insert(table)))
			err := term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
				require.NoError(t, insert(table)(ctx, tx))
				f.kill(f.holder(name))
				f.lockSoon(name)
				// The code does not detect the loss: the probe is off, and no keep-alive is
				// due.
				return nil
			})
			require.Error(t, err)
			require.Error(t, term.WithTx(ctx, nil, insert(table)))
			require.Error(t, term.WithTx(background, nil, insert(table)))
			return nil
		})
		require.Error(t, err)
		assert.EqualValues(t, 1, f.number("SELECT COUNT(*) FROM "+table), "that was committed before")
	})
}

// Other locks of the leader nest on its session, in addition to its
// transactions.
func TestPromise38_LocksNestInATerm(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f, name, inner, table := at.locker(t), at.foreign(t), newName("leader"), newName("inner"), at.table(t, "n INT")
		require.NoError(t, l.Lead(t.Context(), name, func(ctx context.Context, term *namedlock.Term) error {
			return l.WithLock(ctx, inner, 0, func(ctx context.Context) error {
				assert.Equal(t, f.holder(name), f.holder(inner))
				return term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
					assert.NoError(t, insert(table)(ctx, tx))
					return l.WithLock(ctx, newName("innermost"), 0, nothing)
				})
			})
		}))
		assert.EqualValues(t, 1, f.number("SELECT COUNT(*) FROM "+table))
		assert.Zero(t, f.holder(name))
	})
}
