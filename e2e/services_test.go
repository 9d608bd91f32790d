package e2e

import (
	"context"
	"database/sql"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A crowd has calls that are all under their locks at the same time.
type crowd struct {
	t      *testing.T
	l      *namedlock.Locker
	db     *sql.DB
	ends   sync.WaitGroup
	inside chan struct{} // receives once from each call
	leave  chan struct{} // closed when all calls are inside
	calls  int
}

// meet is called under each lock.
func (c *crowd) meet() error {
	c.inside <- struct{}{}
	select {
	case <-c.leave:
	case <-c.t.Context().Done(): // the test has failed
	}
	return nil
}

func (c *crowd) begin(n int, call func(name string) error) {
	for range n {
		c.calls++
		name := newName("size")
		c.ends.Go(func() { assert.NoError(c.t, call(name)) })
	}
}

func (c *crowd) locks(n int) {
	c.begin(n, func(name string) error {
		return c.l.WithLock(c.t.Context(), name, patience, func(context.Context) error { return c.meet() })
	})
}

func (c *crowd) queries(n int) {
	c.begin(n, func(name string) error {
		return c.l.WithLock(c.t.Context(), name, patience, func(ctx context.Context) error {
			conn, err := c.db.Conn(ctx) // like a query, for as long as it runs
			if err != nil {
				return err
			}
			defer conn.Close()
			return c.meet()
		})
	})
}

func (c *crowd) transactions(n int) {
	c.begin(n, func(name string) error {
		return c.l.WithLockTx(c.t.Context(), name, patience, nil, func(context.Context, *sql.Tx) error { return c.meet() })
	})
}

func (c *crowd) leaders(n int) {
	c.begin(n, func(name string) error {
		return c.l.Lead(c.t.Context(), name, func(ctx context.Context, term *namedlock.Term) error {
			return term.WithTx(ctx, nil, func(context.Context, *sql.Tx) error { return c.meet() })
		})
	})
}

// sizes has the calls that the rows of the page make at the same time.
var sizes = map[string]func(c *crowd){
	"1 job that holds its lock by `WithLock`":                                                     func(c *crowd) { c.locks(1) },
	"50 requests, each with the `WithLock` of another name":                                       func(c *crowd) { c.locks(50) },
	"50 requests, each with the `WithLockTx` of another name":                                     func(c *crowd) { c.transactions(50) },
	"1 `Lead` with its `Term.WithTx`":                                                             func(c *crowd) { c.leaders(1) },
	"20 `WithLock`, 10 `WithLockTx`, 2 `Lead`":                                                    func(c *crowd) { c.leaders(2); c.locks(20); c.transactions(10) },
	"50 requests, each with the `WithLock` of another name, on few connections: locks share them": func(c *crowd) { c.locks(50) },
	"20 `WithLock` whose code runs a query on the same db":                                        func(c *crowd) { c.queries(20) },
}

var sizeRow = regexp.MustCompile(`(?m)^\| ([^|]+) \| (\d+) \| (\d+) \|$`)

// The numbers of docs/OPERATIONS.md are large enough.
func TestOperations_Connections(t *testing.T) {
	t.Parallel()
	rows := sizeRow.FindAllStringSubmatch(operationsPage(t), -1)
	require.Len(t, rows, len(sizes))
	onEachServer(t, func(t *testing.T, srv *server) {
		for _, row := range rows {
			t.Run(row[1], func(t *testing.T) {
				calls := sizes[row[1]]
				require.NotNil(t, calls)
				sessions, err := strconv.Atoi(row[2])
				require.NoError(t, err)
				connections, err := strconv.Atoi(row[3])
				require.NoError(t, err)
				db := srv.open(t)
				db.SetMaxOpenConns(connections)
				c := &crowd{
					t: t, l: setup{srv, byOpen}.lockerOn(t, db, namedlock.WithMaxSessions(sessions)).Locker, db: db,
					inside: make(chan struct{}, 100), leave: make(chan struct{}),
				}
				calls(c)
				for i := range c.calls {
					receive(t, c.inside, "call %d of %d is under its lock", i+1, c.calls)
				}
				close(c.leave)
				c.ends.Wait()
			})
		}
	})
}

// Check sends the number of statements that docs/OPERATIONS.md states.
func TestOperations_CheckIsSixStatements(t *testing.T) {
	t.Parallel()
	onPlainServers(t, func(t *testing.T, srv *server) {
		l := setup{srv, byOpen}.spied(t)
		for range 2 {
			l.spy.Reset()
			require.NoError(t, l.Check(t.Context()))
			sent := l.spy.Sent()
			t.Logf("%s", strings.Join(sent, "\n"))
			assert.Len(t, sent, 6)
		}
		l.spy.Reset()
		_ = l.Stats()
		assert.Empty(t, l.spy.Sent())
	})
}
