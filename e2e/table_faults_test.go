package e2e

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/go-namedlock/namedlock/e2e/internal/locksql"
	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
)

// A fault is one way for a statement to fail.
type fault struct {
	is    string // its name in the table
	make  func(c *faultCase) spy.Fault
	sends bool // the server receives the statement, and executes it
	kills bool // the server is asked to end the session or its statement
	every bool // the fault happens at each such statement
	times int  // or at so many of them; 0: at one
	quiet bool // no answer arrives: only a deadline or a bound ends the statement
}

// reachesServer reports whether the server takes part in the fault. The other
// faults happen only in the client: the spy answers in place of the server,
// which receives nothing.
func (f fault) reachesServer() bool { return f.sends || f.kills }

// errorNumber matches the number in the name of a fault that the server
// reports.
var errorNumber = regexp.MustCompile(`\d+`)

// kind is equal for faults that only differ in the server's error number.
func (f fault) kind() string { return errorNumber.ReplaceAllString(f.is, "N") }

var errInjected = errors.New("injected")

// plainly makes a fault that does not depend on its case.
func plainly(f spy.Fault) func(*faultCase) spy.Fault {
	return func(*faultCase) spy.Fault { return f }
}

var (
	notSent      = fault{is: "an unknown error, not sent", make: plainly(spy.FailBefore(errInjected))}
	answerLost   = fault{is: "done, then an unknown error", make: plainly(spy.FailAfter(errInjected)), sends: true}
	badConn      = fault{is: "`driver.ErrBadConn`", make: plainly(spy.FailBefore(driver.ErrBadConn))}
	badConnLate  = fault{is: "done, then `driver.ErrBadConn`", make: plainly(spy.FailAfter(driver.ErrBadConn)), sends: true}
	invalidConn  = fault{is: "`mysql.ErrInvalidConn`", make: plainly(spy.FailBefore(mysql.ErrInvalidConn))}
	brokeInReply = fault{is: "done, then `mysql.ErrInvalidConn`", make: plainly(spy.FailAfter(mysql.ErrInvalidConn)), sends: true}
	everyTime    = fault{is: "`mysql.ErrInvalidConn`, every time", make: plainly(spy.FailBefore(mysql.ErrInvalidConn)), every: true}

	silence = fault{is: "done, then silence", make: plainly(spy.Silence()), sends: true, quiet: true}
	unheard = fault{is: "silence", make: plainly(spy.Unheard()), quiet: true}

	null       = fault{is: "answer NULL", make: plainly(spy.Replace(nil)), sends: true}
	nonsense   = fault{is: "answer 2", make: plainly(spy.Replace(int64(2))), sends: true}
	text       = fault{is: "answer `text`", make: plainly(spy.Replace("text")), sends: true}
	noRow      = fault{is: "answer without a row", make: plainly(spy.NoRows()), sends: true}
	zero       = fault{is: "answer 0", make: plainly(spy.Replace(int64(0))), sends: true}
	zeroUnsent = fault{is: "answer 0", make: plainly(spy.Instead(int64(0)))}
	one        = fault{is: "answer 1", make: plainly(spy.Replace(int64(1))), sends: true}

	killed = fault{is: "session killed before", kills: true, make: func(c *faultCase) spy.Fault {
		return func(ctx context.Context, send func() error) error {
			c.kill(ctx)
			return send()
		}
	}}
	killedMeanwhile = fault{is: "session killed while it waits", kills: true, make: func(c *faultCase) spy.Fault {
		return c.meanwhile("KILL %d")
	}}
	queryKilled = fault{is: "KILL QUERY while it waits", kills: true, make: func(c *faultCase) spy.Fault {
		return c.meanwhile("KILL QUERY %d")
	}}
	// MySQL leaves this error in the socket of a session that it closes for
	// idleness.
	idleClosed = fault{is: "error 4031, and the session is closed", kills: true, make: func(c *faultCase) spy.Fault {
		return func(ctx context.Context, _ func() error) error {
			c.kill(ctx)
			return answerOf(4031)
		}
	}}
)

// deadConnection has every way in which a connection can fail at a statement.
// The last two use an error number of clients: a proxy that has lost the server
// returns it in place of an answer.
var deadConnection = append([]fault{badConn, badConnLate, invalidConn, brokeInReply, killed}, append(errorsOf(2013), lateErrorsOf(2013)...)...)

// unknownError is an error that neither a server nor go-sql-driver returns, on
// a connection that stays valid. Other drivers return such errors.
var unknownError = []fault{notSent, answerLost}

func answerOf(number uint16) error {
	return &mysql.MySQLError{Number: number, Message: "injected"}
}

// errorsOf returns faults in which the server refuses the statement.
func errorsOf(numbers ...uint16) (faults []fault) {
	for _, n := range numbers {
		faults = append(faults, fault{is: fmt.Sprintf("error %d", n), make: plainly(spy.FailBefore(answerOf(n)))})
	}
	return faults
}

// lateErrorsOf returns faults in which the server returns an error, but has
// executed the statement.
func lateErrorsOf(numbers ...uint16) (faults []fault) {
	for _, n := range numbers {
		faults = append(faults, fault{is: fmt.Sprintf("done, then error %d", n), make: plainly(spy.FailAfter(answerOf(n))), sends: true})
	}
	return faults
}

// alwaysErrorsOf returns refusals that happen each time.
func alwaysErrorsOf(numbers ...uint16) (faults []fault) {
	for _, f := range errorsOf(numbers...) {
		f.is, f.every = f.is+", every time", true
		faults = append(faults, f)
	}
	return faults
}

// someErrorsOf returns refusals that happen four times.
func someErrorsOf(numbers ...uint16) (faults []fault) {
	for _, f := range errorsOf(numbers...) {
		f.is, f.times = f.is+", four times", 4
		faults = append(faults, f)
	}
	return faults
}

// kill ends the session that ctx belongs to, and returns when the session has
// ended on the server.
func (c *faultCase) kill(ctx context.Context) {
	id, err := spy.Session(ctx)
	if !assert.NoError(c.t, err) {
		return
	}
	c.killer.kill(id)
	c.awaitEnd(id)
}

// awaitEnd returns when the session has ended on the server.
func (c *faultCase) awaitEnd(id int64) {
	assert.Eventually(c.t, func() bool {
		alive, err := c.on.alive(c.killer, id)
		return err == nil && !alive
	}, patience, pollEvery, "session %d ends", id)
}

// untilEnded delays the statements on another session until this session has
// ended on the server. The server may have granted the lock to this session,
// and a call that tries once does not wait for the end.
func (c *faultCase) untilEnded(f spy.Fault) spy.Fault {
	return func(ctx context.Context, send func() error) error {
		id, err := spy.Session(ctx)
		if !assert.NoError(c.t, err) {
			return err
		}
		c.l.spy.On("", 1, "VERSION()", func(_ context.Context, send func() error) error {
			c.awaitEnd(id)
			return send()
		})
		return f(ctx, send)
	}
}

// meanwhile sends the statement. When the statement waits on the server, it is
// ended, or its session. If the wait was over before that could be seen, as can
// happen to one of 50 ms on a busy machine, the next one is ended.
func (c *faultCase) meanwhile(kill string) spy.Fault {
	return func(ctx context.Context, send func() error) error {
		id, err := spy.Session(ctx)
		if !assert.NoError(c.t, err) {
			return err
		}
		answered := inBackground(send)
		for waits := false; !waits; {
			select {
			case err := <-answered:
				c.l.spy.On("", 1, locksql.GetLock, c.meanwhile(kill))
				return err
			case <-time.After(pollEvery):
			}
			n, err := c.killer.ask(`SELECT COUNT(*) FROM performance_schema.metadata_locks JOIN performance_schema.threads ON THREAD_ID = OWNER_THREAD_ID
				WHERE OBJECT_TYPE = 'USER LEVEL LOCK' AND LOCK_STATUS = 'PENDING' AND PROCESSLIST_ID = ?`, id)
			waits = err == nil && n > 0
		}
		_, _ = c.killer.conn.ExecContext(background, fmt.Sprintf(kill, id))
		return <-answered
	}
}
