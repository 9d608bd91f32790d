package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A replicated is a primary and its possible successors, behind HAProxy.
// HAProxy leads to the node that is writable.
type replicated struct {
	nodes   []*server
	primary *server
	proxied *server // the primary, through HAProxy

	switchOver func(t *testing.T, r *replicated) // makes a successor the primary, with the old primary's help
	promote    func(t *testing.T, r *replicated) // does the same without the old primary
}

// behindHAProxy starts a health check for each node, and the proxy.
func behindHAProxy(t *testing.T, keep bool, nodes ...*server) *replicated {
	t.Helper()
	backends := make([]servers.Backend, len(nodes))
	answered := make([]atomic.Int32, len(nodes))
	for i, node := range nodes {
		check := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			ctx, cancel := context.WithTimeout(background, time.Second)
			defer cancel()
			var readOnly bool
			if err := node.admin.QueryRowContext(ctx, "SELECT @@read_only").Scan(&readOnly); err != nil || readOnly {
				http.Error(w, fmt.Sprintf("read-only: %v, %v", readOnly, err), http.StatusServiceUnavailable)
			}
			answered[i].Add(1)
		}))
		t.Cleanup(check.Close)
		backends[i] = servers.Backend{Addr: node.Server.Addr(), Check: check.Listener.Addr().String(), Keep: keep}
	}
	p, err := servers.StartProxy(servers.HAProxy, backends...)
	if err != nil {
		servers.SkipOrFail(t, err)
	}
	t.Cleanup(func() { assert.NoError(t, p.Stop()) })
	// Until the checks have run, the proxy treats each node as usable.
	for i := range nodes {
		eventually(t, func() bool { return answered[i].Load() > 3 }, "node %d is checked", i)
	}
	return &replicated{nodes: nodes, primary: nodes[0], proxied: &server{Server: nodes[0].Server, proxy: p, admin: nodes[0].admin}}
}

// mustRun runs statements one after the other.
func (s *server) mustRun(t *testing.T, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		ctx, cancel := context.WithTimeout(background, patience)
		_, err := s.admin.ExecContext(ctx, statement)
		cancel()
		require.NoError(t, err, statement)
	}
}

// semiSync returns a primary and its replica, behind HAProxy.
func semiSync(t *testing.T, keep bool) *replicated {
	t.Helper()
	r := behindHAProxy(t, keep, semiSyncSet.borrow(t)...)
	r.promote = promoteReplica
	r.switchOver = func(t *testing.T, r *replicated) {
		r.primary.mustRun(t, "SET GLOBAL read_only = ON")
		promoteReplica(t, r)
	}
	return r
}

// group returns a replication group with a single primary, behind HAProxy.
func group(t *testing.T, keep bool) *replicated {
	t.Helper()
	nodes := groupSet.borrow(t)
	r := behindHAProxy(t, keep, nodes...)
	r.switchOver = func(t *testing.T, r *replicated) {
		var id string
		require.NoError(t, nodes[1].admin.QueryRowContext(background, "SELECT @@server_uuid").Scan(&id))
		nodes[1].mustRun(t, "SELECT group_replication_set_as_primary('"+id+"')")
	}
	r.promote = func(*testing.T, *replicated) {} // the group promotes a member itself
	return r
}

// successor returns the writable node that is not the old primary.
func (r *replicated) successor(t *testing.T) (successor *server) {
	t.Helper()
	for end := time.Now().Add(3 * patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, node := range r.nodes[1:] {
			var readOnly bool
			if err := node.admin.QueryRowContext(background, "SELECT @@read_only").Scan(&readOnly); err == nil && !readOnly {
				return node
			}
		}
	}
	require.FailNow(t, "no node has taken over")
	return nil
}

// promoteReplica makes the replica the primary, after it has applied all events
// that it has received.
func promoteReplica(t *testing.T, r *replicated) {
	t.Helper()
	replica := r.nodes[1]
	replica.mustRun(t, "STOP SLAVE IO_THREAD")
	eventually(t, func() bool {
		rows, err := replica.admin.QueryContext(background, "SHOW SLAVE STATUS")
		require.NoError(t, err)
		defer rows.Close()
		columns, err := rows.Columns()
		require.NoError(t, err)
		require.True(t, rows.Next())
		values, dest := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		require.NoError(t, rows.Scan(dest...))
		for i, column := range columns {
			if column == "Slave_SQL_Running_State" {
				return strings.Contains(values[i].String, "has read all relay log")
			}
		}
		return false
	}, "the replica has applied all")
	replica.mustRun(t, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = OFF")
}

// failovers are the ways in which the primary can change.
var failovers = map[string]struct {
	keep bool // the proxy keeps connections to the old primary
	away func(t *testing.T, r *replicated)
}{
	"switchover":                {away: func(t *testing.T, r *replicated) { r.switchOver(t, r) }},
	"switchover, sessions kept": {keep: true, away: func(t *testing.T, r *replicated) { r.switchOver(t, r) }},
	"killed": {away: func(t *testing.T, r *replicated) {
		require.NoError(t, r.primary.Kill())
		r.promote(t, r)
	}},
	"stopped": {away: func(t *testing.T, r *replicated) {
		require.NoError(t, r.primary.Pause()) // and it never continues
		r.promote(t, r)
	}},
}

// A failover happens under a holder, waiters, and callers that write. The
// holder's context ends. The waiters continue on the new primary. Two sections
// overlap for at most the time in which the holder must detect the loss. A
// transaction that WithLockTx committed is committed once.
func TestFailover_SemiSync(t *testing.T) {
	t.Parallel()
	needHAProxy(t)
	for what, f := range failovers { // one after the other, since they share the servers
		t.Run(what, func(t *testing.T) {
			semiSync(t, f.keep).failOver(t, f.away)
		})
	}
}

// The same, in a MySQL replication group with a single primary.
func TestFailover_Group(t *testing.T) {
	t.Parallel()
	needHAProxy(t)
	for what, f := range failovers { // one after the other, since they share the servers
		t.Run(what, func(t *testing.T) {
			group(t, f.keep).failOver(t, f.away)
		})
	}
}

// needHAProxy skips the test before it starts servers, if HAProxy is missing.
func needHAProxy(t *testing.T) {
	t.Helper()
	if err := servers.Find(servers.HAProxy); err != nil {
		servers.SkipOrFail(t, err)
	}
}

func (r *replicated) failOver(t *testing.T, away func(*testing.T, *replicated)) {
	r.primary.mustRun(t, "CREATE TABLE ledger (id BIGINT AUTO_INCREMENT PRIMARY KEY, number BIGINT NOT NULL, author BIGINT NOT NULL) ENGINE=InnoDB")
	keepAlive := namedlock.WithKeepAlive(often())
	at := setup{r.proxied, byOpen}
	name := newName("failover")
	c, ctx := hold(t, t.Context(), at.locker(t, keepAlive), name)
	var told time.Time
	wait := sync.WaitGroup{}
	wait.Go(func() { <-ctx.Done(); told = time.Now() })
	waiting := at.locker(t, keepAlive)
	waiter := begin(t, t.Context(), waiting, name, 3*patience)
	r.primary.awaitWaiter(t, name)
	writers := r.write(t, at, keepAlive)

	away(t, r)

	successor := r.successor(t)
	requireLost(t, ctx, name)
	wait.Wait()
	ctx = waiter.holds(t)
	began := time.Now()
	t.Logf("the holder was told %v before the waiter began", began.Sub(told).Round(time.Millisecond))
	assert.Less(t, told.Sub(began), twoIntervals(), "two sections at once for longer than is promised")
	c.requireLossReported(t, name)
	if f := successor.foreign(t); f.holder(name) == 0 {
		// The old primary ended the holder's session first, and then granted the
		// waiter the lock. The waiter also loses the lock.
		requireLost(t, ctx, name)
		waiter.requireLossReported(t, name)
		waiter = begin(t, t.Context(), waiting, name, 3*patience)
		waiter.holds(t)
		require.NotZero(t, f.holder(name), "the lock is taken on the new primary")
	}
	waiter.release(t)
	writers.requireLedger(t, successor)
	requireUsable(t, waiting)
}

// writers write until stop is closed.
type writers struct {
	stop               chan struct{}
	running            sync.WaitGroup
	mu                 sync.Mutex // guards committed and unknown
	committed, unknown map[int64]bool
}

// write makes callers of two Lockers append to the ledger, each under one lock.
func (r *replicated) write(t *testing.T, at setup, opts ...namedlock.Option) *writers {
	t.Helper()
	w := &writers{stop: make(chan struct{}), committed: map[int64]bool{}, unknown: map[int64]bool{}}
	name := newName("ledger")
	for author := range int64(2) {
		l, id := at.locker(t, opts...), author<<32
		w.running.Go(func() {
			for {
				select {
				case <-w.stop:
					return
				default:
				}
				id++
				err := l.WithLockTx(t.Context(), name, time.Second, nil, func(ctx context.Context, tx *sql.Tx) error {
					var last sql.NullInt64
					if err := tx.QueryRowContext(ctx, "SELECT MAX(number) FROM ledger").Scan(&last); err != nil {
						return err
					}
					_, err := tx.ExecContext(ctx, "INSERT INTO ledger (number, author) VALUES (?, ?)", last.Int64+1, id)
					return err
				})
				w.note(id, err)
				if err != nil {
					time.Sleep(20 * time.Millisecond) // the pace of calls that fail at once
				}
			}
		})
	}
	eventually(t, func() bool { return w.count() > 5 }, "the ledger is written to")
	return w
}

func (w *writers) note(id int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil, strings.Contains(err.Error(), "the transaction was committed; "):
		w.committed[id] = true
	case errors.Is(err, namedlock.ErrCommitUnknown):
		w.unknown[id] = true
	}
}

func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.committed)
}

// requireLedger ends the writing, and checks the rows: every row of a call that
// returned nil is there, no row of a call that failed, and no number twice.
func (w *writers) requireLedger(t *testing.T, primary *server) {
	t.Helper()
	before := w.count()
	eventually(t, func() bool { return w.count() > before+5 }, "the ledger is written to again")
	close(w.stop)
	w.running.Wait()
	rows, err := primary.admin.QueryContext(background, "SELECT number, author FROM ledger ORDER BY number")
	require.NoError(t, err)
	defer rows.Close()
	last := int64(0)
	for rows.Next() {
		var number, author int64
		require.NoError(t, rows.Scan(&number, &author))
		require.Equal(t, last+1, number, "a gap, or a number twice")
		last = number
		require.True(t, w.committed[author] || w.unknown[author], "row %d of a call that failed", number)
		delete(w.committed, author)
	}
	require.NoError(t, rows.Err())
	require.Empty(t, w.committed, "rows that are missing")
	t.Logf("%d rows, %d commits in doubt", last, len(w.unknown))
}
