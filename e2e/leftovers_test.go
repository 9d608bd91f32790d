package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
)

// Changes that code under a lock makes to its session end with the call.
// Neither the Locker's next lock nor the next user of the connection meets
// them.
func TestPromise43_WhatCodeLeaves(t *testing.T) {
	t.Parallel()
	left := map[string]string{
		"names":      "SET NAMES latin1",
		"client":     "SET character_set_client = swe7",
		"connection": "SET character_set_connection = ucs2",
		"results":    "SET character_set_results = latin1",
		"wide":       "SET character_set_results = ucs2",
		"collation":  "SET collation_connection = utf8mb4_bin",
		"wait":       "SET SESSION wait_timeout = 1",
		"limit":      "SET SESSION sql_select_limit = 0",
		"autocommit": "SET SESSION autocommit = 0",
		"isolation":  "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
		"read only":  "SET SESSION TRANSACTION READ ONLY",
	}
	everyWay(t, func(t *testing.T, at setup) {
		var ofNewSessions string
		require.NoError(t, at.admin.QueryRow("SELECT @@collation_connection").Scan(&ofNewSessions))
		for what, statement := range left {
			run := func(t *testing.T, before int) {
				l, f, name, table := at.locker(t), at.foreign(t), newName("lêft"), at.table(t, "n INT")
				for range before {
					require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(context.Context, *sql.Tx) error { return nil }))
				}
				err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					if err := insert(table)(ctx, tx); err != nil {
						return err
					}
					_, err := tx.ExecContext(ctx, statement)
					return err
				})
				// After this statement the library cannot check that the transaction is the
				// same.
				if what == "autocommit" {
					requireTx(t, err, namedlock.ErrTxEnded, namedlock.TxUnknown)
				} else {
					require.NoError(t, err)
					assert.Equal(t, 1, at.count(t, table))
				}
				f.free(name)
				// The same name is the same lock, whatever its characters.
				odd := newName("café")
				require.NoError(t, l.WithLock(t.Context(), odd, 0, func(ctx context.Context) error {
					assert.False(t, f.get(odd, 0), "two have the lock")
					if what == "wait" { // longer than wait_timeout
						select {
						case <-ctx.Done():
						case <-time.After(1500 * time.Millisecond):
						}
					}
					return context.Cause(ctx)
				}))
				require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					var charset, collation, level, auto string
					isolation := "@@transaction_isolation"
					if strings.Contains(at.Version(), "MariaDB") {
						isolation = "@@tx_isolation"
					}
					err := tx.QueryRowContext(ctx, "SELECT @@character_set_client, @@collation_connection, "+isolation+", @@autocommit").Scan(&charset, &collation, &level, &auto)
					if err != nil {
						return err
					}
					assert.Equal(t, "utf8mb4 "+ofNewSessions+" REPEATABLE-READ 1", fmt.Sprint(charset, " ", collation, " ", level, " ", auto))
					return insert(table)(ctx, tx)
				}))
			}
			t.Run(what, func(t *testing.T) { run(t, 0) })
			// From its second use on the statement that releases is prepared.
			t.Run(what+", prepared", func(t *testing.T) { run(t, 2) })
		}
	})
}

// While a setting is changed, the answers of the server are read correctly:
// those to proofs, to a nested call that waits, and to the releases.
func TestPromise43_WhileItIsChanged(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for _, statement := range []string{
			// MariaDB sends numbers in this character set.
			"SET character_set_results = ucs2", "SET character_set_results = utf16le", "SET character_set_results = utf32",
			"SET SESSION sql_select_limit = 0",
		} {
			t.Run(statement, func(t *testing.T) {
				t.Parallel()
				l, f, name, busy := at.spied(t, namedlock.WithKeepAlive(calm())), at.foreign(t), newName("changed"), newName("busy")
				f.lock(busy)
				require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					_, err := tx.ExecContext(ctx, statement)
					require.NoError(t, err)
					proofs := l.spy.Count(locksql.IsUsedLock)
					eventually(t, func() bool { return l.spy.Count(locksql.IsUsedLock) > proofs+1 }, "two proofs")
					nested := inBackground(func() error {
						return l.WithLock(ctx, busy, namedlock.Forever, func(ctx context.Context) error { return context.Cause(ctx) })
					})
					at.awaitWaiter(t, busy)
					f.unlock(busy)
					require.NoError(t, receive(t, nested, "the nested call returns"))
					return context.Cause(ctx)
				}))
				f.free(name, busy)
			})
		}
	})
}

// A lock inside the code of a transaction also has the right name after SET
// NAMES.
func TestPromise43_NestedAfterSetNames(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f := at.locker(t), at.foreign(t)
		name, odd := newName("é"), newName("café")
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "SET NAMES latin1")
			require.NoError(t, err)
			return l.WithLock(ctx, odd, 0, func(context.Context) error {
				assert.False(t, f.get(odd, 0), "two have the nested lock")
				assert.False(t, f.get(name, 0), "two have the lock")
				return nil
			})
		}))
		f.free(name, odd)
	})
}

// Locks that the code acquires by hand, with the same name and others, are free
// after the call.
func TestPromise43_LocksByHand(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, f := at.locker(t), at.foreign(t)
		name, other, outer := newName("byhand"), newName("other"), newName("outer")
		byHand := func(ctx context.Context, tx *sql.Tx) error {
			for _, lock := range []string{name, name, other} {
				var got int
				if err := tx.QueryRowContext(ctx, "SELECT GET_LOCK(?, 0)", lock).Scan(&got); err != nil {
					return err
				}
				assert.Equal(t, 1, got)
			}
			return nil
		}
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, byHand))
		f.free(name, other)
		// Under another lock on the same session the lock's own name is free at once,
		// and all other names at the end.
		require.NoError(t, l.WithLock(t.Context(), outer, 0, func(ctx context.Context) error {
			require.NoError(t, l.WithLockTx(ctx, name, 0, nil, byHand))
			f.free(name)
			assert.NotZero(t, f.holder(outer), "the outer lock is held")
			return ctx.Err()
		}))
		f.free(name, other, outer)
		require.NoError(t, l.Lead(t.Context(), name, func(ctx context.Context, term *namedlock.Term) error {
			return term.WithTx(ctx, nil, byHand)
		}))
		f.free(name, other)
	})
}

// A session that its code changed is closed. A session that its code did not
// change is kept.
func TestPromise43_OnlyTheChangedSessionIsClosed(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		l, name, table := setup{srv, byOpen}.locker(t), newName("kept"), srv.table(t, "n INT")
		for range 10 {
			require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, insert(table)))
		}
		assert.Zero(t, l.Stats().SessionsDiscarded)
		assert.EqualValues(t, 1, l.Stats().SessionsOpened)
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "SET NAMES latin1")
			return err
		}))
		assert.EqualValues(t, 1, l.Stats().SessionsDiscarded)
		assert.Zero(t, l.Stats().Lost)
	})
}

// The isolation level for a transaction that could not begin does not apply to
// the next transaction.
func TestPromise33_IsolationOfATransactionThatDidNotBegin(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		db, beginFails := at.openRefusing(t, "START TRANSACTION")
		l, name := at.lockerOn(t, db), newName("pending")
		beginFails.Store(true)
		err := l.WithLockTx(t.Context(), name, 0, &sql.TxOptions{Isolation: sql.LevelReadUncommitted}, insert("nowhere"))
		requireTx(t, err, namedlock.ErrUnavailable, namedlock.TxNone)
		beginFails.Store(false)
		table := at.table(t, "n INT")
		_, err = at.admin.Exec("INSERT INTO " + table + " VALUES (1)")
		require.NoError(t, err)
		dirty, err := at.admin.BeginTx(background, nil)
		require.NoError(t, err)
		defer dirty.Rollback()
		_, err = dirty.Exec("UPDATE " + table + " SET n = 2")
		require.NoError(t, err)
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			var n int
			if err := tx.QueryRowContext(ctx, "SELECT n FROM "+table).Scan(&n); err != nil {
				return err
			}
			assert.Equal(t, 1, n, "the transaction reads what is not committed")
			return nil
		}))
	})
}

// fn ends its transaction itself, and the server refuses COMMIT. No later
// statement commits the transaction.
func TestPromise43_RefusedCommitOfTheCode(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		db, commitFails := at.openRefusing(t, "COMMIT")
		l, f, name, table := at.lockerOn(t, db), at.foreign(t), newName("refused"), at.table(t, "n INT")
		err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
			if err := insert(table)(ctx, tx); err != nil {
				return err
			}
			commitFails.Store(true)
			defer commitFails.Store(false)
			assert.Error(t, tx.Commit())
			return nil
		})
		assert.ErrorIs(t, err, sql.ErrTxDone)
		f.free(name)
		require.NoError(t, l.WithLockTx(t.Context(), name, 0, nil, insert(table)))
		assert.Equal(t, 1, at.count(t, table))
	})
}

// openRefusing returns a pool of the plain driver, whose server refuses
// statement while the switch is true.
func (s *server) openRefusing(t *testing.T, statement string) (*sql.DB, *atomic.Bool) {
	t.Helper()
	on := new(atomic.Bool)
	payload := append([]byte{0xff, 1290 & 0xff, 1290 >> 8}, "#HY000refused by the test"...)
	refusal := append([]byte{byte(len(payload)), 0, 0, 1}, payload...)
	return s.openTapped(t, s.DSN(), func(sent string) (answer []byte) {
		if on.Load() && sent == statement {
			return refusal
		}
		return nil
	}), on
}

// openTapped returns a pool of the plain driver that passes each statement sent
// as text to tap. tap may answer the statement in place of the server.
func (s *server) openTapped(t *testing.T, dsn string, tap func(statement string) (answer []byte)) *sql.DB {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	require.NoError(t, err)
	cfg.Logger = &mysql.NopLogger{}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &tapped{TCPConn: conn.(*net.TCPConn), tap: tap}, nil
	}
	connector, err := mysql.NewConnector(cfg)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

// A tapped connection embeds a socket, so that the driver can check it.
type tapped struct {
	*net.TCPConn
	tap    func(string) []byte
	answer []byte
}

func (c *tapped) Write(b []byte) (int, error) {
	const header, comQuery = 4, 3
	if len(b) > header && b[header] == comQuery {
		if c.answer = c.tap(string(b[header+1:])); c.answer != nil {
			return len(b), nil
		}
	}
	return c.TCPConn.Write(b)
}

func (c *tapped) Read(b []byte) (int, error) {
	if len(c.answer) == 0 {
		return c.TCPConn.Read(b)
	}
	n := copy(b, c.answer)
	c.answer = c.answer[n:]
	return n, nil
}

// Table locks that the code acquires end with the call, even if the code ends
// its transaction itself.
func TestPromise43_TableLocksAfterTheCodesOwnEnd(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		for how, end := range map[string]func(*sql.Tx) error{"Commit": (*sql.Tx).Commit, "Rollback": (*sql.Tx).Rollback} {
			t.Run(how, func(t *testing.T) {
				l, f, name, table := at.locker(t), at.foreign(t), newName("tables"), at.table(t, "n INT")
				err := l.WithLockTx(t.Context(), name, 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					_, err := tx.ExecContext(ctx, "LOCK TABLES "+table+" WRITE")
					require.NoError(t, err)
					require.NoError(t, insert(table)(ctx, tx))
					return end(tx)
				})
				assert.ErrorIs(t, err, sql.ErrTxDone)
				_, err = f.conn.ExecContext(background, "SET SESSION lock_wait_timeout = 1")
				require.NoError(t, err)
				_, err = f.conn.ExecContext(background, "LOCK TABLES "+table+" WRITE")
				assert.NoError(t, err, "the table is still locked")
				_, err = f.conn.ExecContext(background, "UNLOCK TABLES")
				require.NoError(t, err)
			})
		}
	})
}

// With a completion_type of CHAIN, COMMIT begins another transaction.
func TestPromise43_CompletionType(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		for how, returned := range map[string]error{"commit": nil, "rollback": errTx} {
			t.Run(how, func(t *testing.T) {
				at := setup{srv, byOpen}
				db := at.open(t)
				db.SetMaxOpenConns(2)
				l, table := at.lockerOn(t, db), at.table(t, "n INT")
				err := l.WithLockTx(t.Context(), newName("chain"), 0, nil, func(ctx context.Context, tx *sql.Tx) error {
					_, err := tx.ExecContext(ctx, "SET SESSION completion_type = 'CHAIN'")
					require.NoError(t, err)
					if err := insert(table)(ctx, tx); err != nil {
						return err
					}
					return returned
				})
				assert.Equal(t, returned, err)
				assert.NoError(t, l.Close())
				before := at.count(t, table)
				for range 4 {
					_, err := db.ExecContext(t.Context(), "INSERT INTO "+table+" VALUES (7)")
					require.NoError(t, err)
				}
				assert.Equal(t, before+4, at.count(t, table), "a connection of the db is in a transaction")
			})
		}
	})
}
