package e2e

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"regexp"

	"github.com/go-namedlock/namedlock/e2e/internal/spy"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/assert"
)

// A fault is one way for a statement to go wrong.
type fault struct {
	is    string // its name in the table
	make  func(c *faultCase) spy.Fault
	sends bool // the server gets the statement, and carries it out
	kills bool // the server is told to end the session or its statement
	every bool // it hits the statement each time
	times int  // or so many times; 0: once
	quiet bool // nothing is heard: only a deadline or a bound ends it
}

// reachesServer reports whether the server takes part in the fault. The other
// faults are the client's alone: the spy answers in the place of the server,
// which gets nothing.
func (f fault) reachesServer() bool { return f.sends || f.kills }

// errorNumber is in the name of a fault that the server reports.
var errorNumber = regexp.MustCompile(`\d+`)

// kind is equal for faults that differ in nothing but the server's error
// number.
func (f fault) kind() string { return errorNumber.ReplaceAllString(f.is, "N") }

var errInjected = errors.New("injected")

// plainly is for faults that need to know nothing.
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
	// What MySQL leaves in the socket of a session that it closes for idleness.
	idleClosed = fault{is: "error 4031, and the session is closed", kills: true, make: func(c *faultCase) spy.Fault {
		return func(ctx context.Context, _ func() error) error {
			c.kill(ctx)
			return answerOf(4031)
		}
	}}
)

// deadConnection is every way in which a connection can fail at a statement.
// The last is a client's number: a proxy that has lost the server gives it in
// the place of an answer.
var deadConnection = append([]fault{badConn, badConnLate, invalidConn, brokeInReply, killed}, append(errorsOf(2013), lateErrorsOf(2013)...)...)

// unknownError is an error that is none of a server's, nor one that
// go-sql-driver has for dead connections, on a connection that is valid: as
// drivers other than that have.
var unknownError = []fault{notSent, answerLost}

func answerOf(number uint16) error {
	return &mysql.MySQLError{Number: number, Message: "injected"}
}

// errorsOf are the server's refusals, which it gives in the place of what was
// asked for.
func errorsOf(numbers ...uint16) (faults []fault) {
	for _, n := range numbers {
		faults = append(faults, fault{is: fmt.Sprintf("error %d", n), make: plainly(spy.FailBefore(answerOf(n)))})
	}
	return faults
}

// lateErrorsOf are errors of statements that have been carried out all the
// same.
func lateErrorsOf(numbers ...uint16) (faults []fault) {
	for _, n := range numbers {
		faults = append(faults, fault{is: fmt.Sprintf("done, then error %d", n), make: plainly(spy.FailAfter(answerOf(n))), sends: true})
	}
	return faults
}

// alwaysErrorsOf are refusals that stay.
func alwaysErrorsOf(numbers ...uint16) (faults []fault) {
	for _, f := range errorsOf(numbers...) {
		f.is, f.every = f.is+", every time", true
		faults = append(faults, f)
	}
	return faults
}

// someErrorsOf are refusals that stay for a while.
func someErrorsOf(numbers ...uint16) (faults []fault) {
	for _, f := range errorsOf(numbers...) {
		f.is, f.times = f.is+", four times", 4
		faults = append(faults, f)
	}
	return faults
}

// kill ends the session that ctx is for, and returns when the server knows it
// no more.
func (c *faultCase) kill(ctx context.Context) {
	id, err := spy.Session(ctx)
	if !assert.NoError(c.t, err) {
		return
	}
	c.killer.kill(id)
	c.awaitEnd(id)
}

// awaitEnd returns when the server knows the session no more.
func (c *faultCase) awaitEnd(id int64) {
	assert.Eventually(c.t, func() bool {
		alive, err := c.on.alive(c.killer, id)
		return err == nil && !alive
	}, patience, pollEvery, "session %d ends", id)
}

// untilEnded holds up what follows on another session until the server knows
// this one no more, which may have been granted the lock: a call that tries
// once does not wait for that for long.
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

// meanwhile sends the statement and ends it, or its session, when it waits on
// the server.
func (c *faultCase) meanwhile(kill string) spy.Fault {
	return func(ctx context.Context, send func() error) error {
		id, err := spy.Session(ctx)
		if !assert.NoError(c.t, err) {
			return err
		}
		answered := inBackground(send)
		assert.Eventually(c.t, func() bool {
			n, err := c.killer.ask(`SELECT COUNT(*) FROM performance_schema.metadata_locks JOIN performance_schema.threads ON THREAD_ID = OWNER_THREAD_ID
				WHERE OBJECT_TYPE = 'USER LEVEL LOCK' AND LOCK_STATUS = 'PENDING' AND PROCESSLIST_ID = ?`, id)
			return err == nil && n > 0
		}, patience, pollEvery, "session %d waits", id)
		_, _ = c.killer.conn.ExecContext(background, fmt.Sprintf(kill, id))
		return <-answered
	}
}
