package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/go-namedlock/namedlock/e2e/servers"
	"github.com/stretchr/testify/require"
)

// A step is a statement in the life of a lock, and the way to reach it.
type step struct {
	is   string // its name in the table
	says string // the statement

	only  servers.Kind            // "": on both servers
	plain bool                    // the driver does not insert arguments into the text
	opts  []namedlock.Option      // in addition to the options of all cases
	ready func(c *faultCase)      // before the call; nil: nothing
	how   string                  // as for spy.On
	nth   int                     // 0: the first
	text  map[servers.Kind]string // the text for both servers is under ""

	contended bool // a foreign session holds the lock, or all slots, until the fault
	slots     bool // the call is a WithSlot
	brief     bool // a busy machine may be late by more than the duration of the statement
	during    bool // the statement is sent while the code under the lock runs
	finally   bool // or after the lock has been released
	once      bool // the call tries once: its timeout is 0
}

func everywhere(text string) map[servers.Kind]string { return map[servers.Kind]string{"": text} }

// cycles makes the session acquire and release n other locks.
func cycles(n int) func(c *faultCase) {
	return func(c *faultCase) {
		for range n {
			requireUsable(c.t, c.l)
		}
	}
}

// clusterUnknown makes the greeting fail that also reads the state of the
// cluster.
func clusterUnknown(c *faultCase) {
	c.l.spy.On(spy.Query, 1, "/*M!", spy.FailBefore(answerOf(1193)))
}

var connecting = &step{is: "Connect", says: "opening a connection", how: spy.Connect}

var greeting = &step{is: "Greeting", says: "`SELECT VERSION(), …, RELEASE_ALL_LOCKS(), @@read_only, …`", text: everywhere(locksql.Version)}

var greetingPooled = &step{
	is: "Greeting of a pooled connection", says: "the same, on a connection that was idle in the db", text: everywhere(locksql.Version),
	ready: func(c *faultCase) { require.NoError(c.t, c.l.db.PingContext(c.t.Context())) },
}

var cluster = &step{
	is:    "Cluster question",
	says:  "`SELECT @@wsrep_on` or `SELECT @@group_replication_single_primary_mode`, if the greeting did not return 0",
	text:  map[servers.Kind]string{servers.MariaDB: "SELECT @@wsrep_on", servers.MySQL: "SELECT @@group_replication_single_primary_mode"},
	ready: clusterUnknown,
}

var clusterSize = &step{
	is: "Cluster size", says: "`SHOW STATUS LIKE 'wsrep_cluster_size'`, on a node of Galera", only: servers.MariaDB,
	text: everywhere("wsrep_cluster_size"),
	ready: func(c *faultCase) {
		clusterUnknown(c)
		c.l.spy.On(spy.Query, 1, "SELECT @@wsrep_on", spy.Instead("ON"))
	},
}

var primaries = &step{
	is: "Count of primaries", says: "`SELECT COUNT(*) FROM performance_schema.replication_group_members …`, on a multi-primary member", only: servers.MySQL,
	text: everywhere("replication_group_members"),
	ready: func(c *faultCase) {
		clusterUnknown(c)
		c.l.spy.On(spy.Query, 1, "SELECT @@group_replication_single_primary_mode", spy.Instead("OFF"))
	},
}

// checkInterval is the keep-alive interval of a session that is idle until it
// is checked again. It is not paced: after 1 s without a lock the session is
// returned to its db.
const checkInterval = 500 * time.Millisecond

var checkedAgain = &step{
	is: "Check of a session in use", says: "`SELECT @@read_only, @@innodb_read_only`, a keep-alive interval after the last", text: everywhere("SELECT @@read_only"),
	opts: []namedlock.Option{namedlock.WithKeepAlive(checkInterval)},
	ready: func(c *faultCase) {
		requireUsable(c.t, c.l)
		<-time.After(checkInterval + checkInterval/10)
	},
}

var lease = &step{is: "Lease", says: "`SET SESSION wait_timeout = n`", text: everywhere("SET SESSION wait_timeout = 60")}

var getText = &step{is: "GET_LOCK, as text", says: "`SELECT GET_LOCK(?, ?)`, the driver puts the arguments in", how: spy.Query, text: everywhere(locksql.GetLock)}

var getOnce = &step{
	is: "GET_LOCK, tried once", says: "the same, in a call with timeout 0", how: spy.Query, text: everywhere(locksql.GetLock), once: true,
}

var getSpelt = &step{is: "GET_LOCK, as literals", says: "`SELECT GET_LOCK('name', 0)`, if the driver does not", how: spy.Query, text: everywhere(locksql.GetLock + "'"), plain: true}

var getPrepare = &step{is: "GET_LOCK, prepared", says: "its COM_STMT_PREPARE, at the second use", how: spy.Prepare, text: everywhere(locksql.GetLock), ready: cycles(1)}

var getExecute = &step{is: "GET_LOCK, executed", says: "its COM_STMT_EXECUTE", how: spy.Run, text: everywhere(locksql.GetLock), ready: cycles(2)}

var releaseInCase = &step{
	is: "RELEASE_LOCK, in case", says: "`SELECT RELEASE_LOCK(?)` after a GET_LOCK that returned NULL", text: everywhere(locksql.ReleaseLock),
	ready: func(c *faultCase) { c.l.spy.On(spy.Query, 1, locksql.GetLock, spy.Replace(nil)) },
}

var releaseForNothing = &step{
	is: "RELEASE_LOCK, in case, without a lock", says: "the same, if nothing was granted", text: everywhere(locksql.ReleaseLock),
	ready: func(c *faultCase) { c.l.spy.On(spy.Query, 1, locksql.GetLock, spy.Instead(nil)) },
}

var timeLimit = &step{
	is: "Statement limit", says: "`SELECT @@max_statement_time`, before the first wait", only: servers.MariaDB, text: everywhere("@@max_statement_time"),
	contended: true,
}

var waiting = &step{
	is: "Wait", says: "`SELECT /*+ MAX_EXECUTION_TIME(n) */ GET_LOCK(?, ?)` or `SELECT GET_LOCK(?, ?)`, when the first returned 0",
	text: everywhere(locksql.GetLock), nth: 2, contended: true,
}

var afterWait = &step{
	is: "Check after a wait", says: "`SELECT @@read_only, @@innodb_read_only`, when a lock was granted after a wait of more than a keep-alive interval",
	text: everywhere("SELECT @@read_only"),
	opts: []namedlock.Option{namedlock.WithKeepAlive(often())},
	ready: func(c *faultCase) {
		c.holder = c.on.foreign(c.t)
		c.holder.lock(c.name)
		c.l.spy.On(spy.Query, 2, locksql.GetLock, func(_ context.Context, send func() error) error { // the wait
			<-time.After(often() + often()/10)
			c.holder.unlock(c.name)
			return send()
		})
	},
}

var anyPrepare = &step{
	is: "Any preparing", says: "each COM_STMT_PREPARE, if the driver puts the arguments in", how: spy.Prepare, text: everywhere(""), ready: cycles(1),
}

var anyPreparePlain = &step{
	is: "Any preparing, no interpolation", says: "each COM_STMT_PREPARE, if the driver does not", how: spy.Prepare, text: everywhere(""), plain: true,
	ready: func(c *faultCase) {
		if c.on.way == byOpen { // sends text the first time
			cycles(1)(c)
		}
	},
}

var anyExecute = &step{is: "Any executing", says: "each COM_STMT_EXECUTE", how: spy.Run, text: everywhere(""), ready: cycles(2)}

var keepAlive = &step{
	is: "Keep-alive", says: "`SELECT IS_USED_LOCK(?) = CONNECTION_ID(), @@read_only, @@innodb_read_only`", text: everywhere(locksql.IsUsedLock),
	// On a busy machine the interval must be long enough for four repetitions.
	opts: []namedlock.Option{namedlock.WithKeepAlive(calm())}, during: true,
}

var releaseText = &step{is: "RELEASE_LOCK, as text", says: "`SELECT RELEASE_LOCK(?)`", how: spy.Query, text: everywhere(locksql.ReleaseLock), finally: true}

var releaseSpelt = &step{is: "RELEASE_LOCK, as literals", says: "`SELECT RELEASE_LOCK('name')`", how: spy.Query, text: everywhere(locksql.ReleaseLock + "'"), plain: true, finally: true}

var releasePrepare = &step{is: "RELEASE_LOCK, prepared", says: "its COM_STMT_PREPARE, at the second use", how: spy.Prepare, text: everywhere(locksql.ReleaseLock), ready: cycles(1), finally: true}

var releaseExecute = &step{is: "RELEASE_LOCK, executed", says: "its COM_STMT_EXECUTE", how: spy.Run, text: everywhere(locksql.ReleaseLock), ready: cycles(2), finally: true}

var leaseBack = &step{is: "Lease set back", says: "`SET SESSION wait_timeout = n`, when the session goes back", text: everywhere("SET SESSION wait_timeout = 28800"), finally: true}

var statementClose = &step{is: "Statement closed", says: "its COM_STMT_CLOSE, when the session goes back", how: spy.Close, text: everywhere(locksql.GetLock), ready: cycles(2), finally: true}

// The statements of a WithSlot. Some have the same text as the statements of
// the gate, which are sent first.

var slotGate = &step{is: "Slot: GET_LOCK of the gate", says: "`SELECT GET_LOCK('name#gate', 0)`", text: everywhere(locksql.GetLock), slots: true}

var slotLook = &step{is: "Slot: look", says: "`SELECT IS_USED_LOCK('name#0'), IS_USED_LOCK('name#1')`, under the gate", text: everywhere(locksql.IsUsedLock), slots: true}

var slotGet = &step{is: "Slot: GET_LOCK", says: "`SELECT GET_LOCK('name#0', 0)` of a slot that is free, under the gate", text: everywhere(locksql.GetLock), nth: 2, slots: true}

var slotWait = &step{
	is: "Slot: wait", says: "`SELECT GET_LOCK('name#0', 0.04)` of a slot that is held, under the gate", text: everywhere(locksql.GetLock), nth: 2, slots: true, contended: true, brief: true,
}

var slotOpen = &step{is: "Slot: RELEASE_LOCK of the gate", says: "`SELECT RELEASE_LOCK('name#gate')`, when a slot is held", text: everywhere(locksql.ReleaseLock), slots: true}

var slotRelease = &step{is: "Slot: RELEASE_LOCK", says: "`SELECT RELEASE_LOCK('name#0')`", text: everywhere(locksql.ReleaseLock), nth: 2, slots: true, finally: true}

// lockerFor returns a Locker for one case, with a spy.
func (g ground) lockerFor(t *testing.T, st *step) *locker {
	t.Helper()
	cfg := g.config(t)
	cfg.InterpolateParams = !st.plain
	opts := append([]namedlock.Option{
		namedlock.WithLease(time.Minute), namedlock.WithReleaseTimeout(releaseBound), namedlock.WithKeepAlive(time.Minute),
	}, st.opts...)
	return g.spiedAs(t, cfg, opts...)
}

// releaseBound is the WithReleaseTimeout. On any machine, a release that is not
// silent takes less.
const releaseBound = time.Second

// A use is a way to hold a lock while fn runs.
type use func(ctx context.Context, l *locker, name string, timeout time.Duration, fn func(context.Context) error) error

// slotsOfCase is the number of slots.
const slotsOfCase = 2

// usedBy reports whether the step occurs in the use.
func (st *step) usedBy(use string) bool { return st.slots == (use == "WithSlot") }

var uses = map[string]use{
	"WithLock": func(ctx context.Context, l *locker, name string, timeout time.Duration, fn func(context.Context) error) error {
		return l.WithLock(ctx, name, timeout, fn)
	},
	"WithSlot": func(ctx context.Context, l *locker, name string, timeout time.Duration, fn func(context.Context) error) error {
		return l.WithSlot(ctx, name, slotsOfCase, timeout, func(ctx context.Context, _ int) error { return fn(ctx) })
	},
	"Acquire": func(ctx context.Context, l *locker, name string, timeout time.Duration, fn func(context.Context) error) error {
		lock, err := l.Acquire(ctx, name, timeout)
		if err != nil {
			return err
		}
		if err := fn(lock.Context()); err != nil {
			return err
		}
		return lock.Release()
	},
}
