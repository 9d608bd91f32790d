package server

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-namedlock/namedlock/internal/clock"
	"github.com/go-namedlock/namedlock/internal/fault"
	"github.com/go-namedlock/namedlock/internal/names"
)

// The columns of an uncontended cycle's statements, and of a proof. They are
// listed in docs/STATEMENTS.md: users mock them.
const (
	getLock         = "GET_LOCK(?, ?)"
	releaseLock     = "RELEASE_LOCK(?)"
	releaseAllLocks = "RELEASE_ALL_LOCKS()"

	// The name in hexadecimal digits is the same lock in every character set
	// that code of the user's may have set. UNHEX alone is NULL on MariaDB with
	// connection ucs2.
	releaseInHex = "RELEASE_LOCK(CONVERT(UNHEX(CONVERT(? USING latin1)) USING utf8mb4))"

	provesLock = "IS_USED_LOCK(?) = CONNECTION_ID()"
)

// Slice is the longest wait of one GET_LOCK.
const Slice = 30 * time.Second

// GetLock asks for the lock once and, if another session holds it, waits for at
// most wait. It returns true if the lock was granted, and false if another
// session kept it. On an error nothing is held. If the error leaves that in
// doubt, RELEASE_LOCK follows (see releaseInCase), or the session is broken.
func (c *Conn) GetLock(name string, wait time.Duration) (granted bool, err error) {
	return c.getLock(name, wait, false)
}

// GetLockThenLook is GetLock for a caller that calls HolderIDs next. On MySQL
// this saves a statement. A wait ends by an error there, and HolderIDs shows
// whether the lock was granted at the same moment.
func (c *Conn) GetLockThenLook(name string, wait time.Duration) (granted bool, err error) {
	return c.getLock(name, wait, true)
}

func (c *Conn) getLock(name string, wait time.Duration, lookFollows bool) (granted bool, err error) {
	if err := c.readyFor(name); err != nil {
		return false, err
	}
	c.atGrant = nil
	var answer sql.NullInt64
	if wait > 0 {
		answer, err = c.waitForLock(name, wait)
	} else {
		answer, err = c.ask(c.patience(), &c.get, c.argsFor(name))
	}
	switch {
	case err == nil && answer.Int64 == 1:
		c.locks++
		if wait > 0 {
			// The server was busy with the statement during the wait, not idle.
			c.answered.Store(int64(clock.Now()))
		}
		return true, nil
	case err == nil && answer.Valid && answer.Int64 == 0:
		return false, nil
	case err == nil && answer.Valid:
		return false, c.MarkBroken(fmt.Errorf("GET_LOCK returned %d", answer.Int64))
	case err != nil && !IsAnswer(err):
		return false, c.MarkBroken(err)
	case wait > 0 && lookFollows && isTimeLimit(err):
		c.leftovers = append(c.leftovers, name)
		return false, nil
	}
	if err := c.releaseInCase(name, err); err != nil {
		return false, err
	}
	if wait <= 0 && isTimeLimit(err) {
		// The server's time limit for statements is so short that it cut off
		// even the try. A wait overrides that limit. If the RELEASE_LOCK was
		// refused, readyFor returns an error.
		return c.getLock(name, time.Millisecond, lookFollows)
	}
	return false, verdict(err)
}

// releaseInCase sends RELEASE_LOCK after a GET_LOCK that was answered by an
// error, its cause, or by NULL. The wait has ended then, but no manual says
// that the lock cannot have been granted at the same moment.
//
// An error in answer to this RELEASE_LOCK must not cost the session its other
// locks. The release is then repeated later: see releaseLeftovers. A session of
// our own without locks is discarded instead.
func (c *Conn) releaseInCase(name string, cause error) error {
	_, err := c.ask(c.patience(), &c.release, c.argsFor(name)[:1:1])
	switch {
	case err == nil, isRefusal(err) && isRefusal(cause):
		return nil
	case !IsAnswer(err), !c.lent && c.locks == 0:
		return c.MarkBroken(err)
	}
	c.leftovers = append(c.leftovers, name)
	return nil
}

// releaseLeftovers releases the locks that may be on the session without a
// holder. The server has refused to release them in releaseInCase, or the look
// after GetLockThenLook has not come. It returns an error if the server refuses
// one.
func (c *Conn) releaseLeftovers() (refused error) {
	for i := len(c.leftovers) - 1; i >= 0; i-- {
		_, err := c.ask(c.patience(), &c.release, named(c.leftovers[i]))
		switch {
		case err == nil:
			c.leftovers = slices.Delete(c.leftovers, i, i+1)
		case !IsAnswer(err):
			return c.MarkBroken(err)
		default:
			refused = fault.Because(fault.ErrUnavailable, "the server refused to release a lock that an interrupted GET_LOCK may have left", err)
		}
	}
	return refused
}

// readyFor makes sure that the session can spell the name, and that no leftover
// of it is on the session: GET_LOCK would re-enter that silently.
func (c *Conn) readyFor(name string) error {
	isOf := func(left string) bool { return names.Fold(left) == names.Fold(name) }
	if err := c.releaseLeftovers(); err != nil && (c.Broken() || slices.ContainsFunc(c.leftovers, isOf)) {
		return err
	}
	if !names.ASCII(name) {
		if err := c.greet(); err != nil {
			return err // the spelling of the name depends on the character sets
		}
	}
	c.chooseSpelling()
	return nil
}

// argsFor returns the arguments for GET_LOCK(name, 0). The first of them alone
// is for RELEASE_LOCK(name). They are kept for the next statement about that
// lock. They do not change, since a wrapper of the driver may keep them.
func (c *Conn) argsFor(name string) []driver.NamedValue {
	if c.args == nil || c.args[0].Value != name {
		c.args = named(name, int64(0))
	}
	return c.args
}

// waitForLock sends a GET_LOCK that waits. The same statement selects whether
// the server is read-only. The server evaluates those columns after the grant
// (measured on MySQL 9.7 and MariaDB 10.5, 10.11 and 11.8), so they show a
// server that was demoted during the wait.
func (c *Conn) waitForLock(name string, wait time.Duration) (answer sql.NullInt64, err error) {
	bound := wait + AnswerTime
	if c.locks > 0 {
		bound = c.patience() // wait is at most half an interval: see Pool.BeginWait
	}
	if err := c.greet(); err != nil {
		return answer, err
	}
	verb, timeout, err := c.selectInWait(wait)
	if err != nil {
		return answer, err
	}
	columns := []column{{getLock, &answer}}
	var mode writability
	if c.server.CheckServer {
		columns = append(columns, c.readOnlyColumns(&mode)...)
	}
	texts, dest := split(columns)
	err = c.query(bound, &statement{text: verb + c.columns(texts...)}, named(name, timeout), dest)
	if c.lacksInnoDB(columns, err) {
		return c.waitForLock(name, wait) // the server did not wait: it does not have the column
	}
	if err == nil && mode.readOnly.Valid {
		c.atGrant = &mode
	}
	return answer, err
}

// ReleaseLock sends RELEASE_LOCK once, under a bound of its own. It returns nil
// only if the server answered 1: this session held the lock. After any other
// answer the error matches fault.ErrLost and the session is broken, so that its
// connection is discarded.
//
// If code under the lock left the session changed, ReleaseLock also breaks the
// session, and returns nil.
func (c *Conn) ReleaseLock(name string) error {
	_ = c.releaseLeftovers() // if it fails, RELEASE_LOCK fails as well, or it is repeated later
	bound := c.server.ReleaseTimeout
	if c.locks > 1 {
		bound = min(bound, c.patience())
	}
	answer, err := c.sendRelease(name, bound)
	switch {
	case err != nil:
		c.broken = fmt.Errorf("RELEASE_LOCK failed: %w", err)
	case !answer.Valid:
		c.broken = errors.New("RELEASE_LOCK returned NULL: no session holds the lock")
	case answer.Int64 != 1:
		c.broken = fmt.Errorf("RELEASE_LOCK returned %d: another session holds the lock", answer.Int64)
	default:
		c.locks--
		if c.locks == 0 && c.spoilt != nil {
			c.broken = c.spoilt
		}
		return nil
	}
	return fault.Because(fault.ErrLost, "lock lost before its release", c.broken)
}

// sendRelease sends RELEASE_LOCK. While other code under the lock reads rows of
// a transaction, nothing can be sent. sendRelease waits for the end of the
// rows, within bound.
func (c *Conn) sendRelease(name string, bound time.Duration) (answer sql.NullInt64, err error) {
	const pause = time.Millisecond
	for deadline := time.Now().Add(bound); ; time.Sleep(pause) {
		if c.hasCode {
			answer, err = c.releaseAfterCode(name, bound)
		} else {
			answer, err = c.ask(bound, &c.release, c.argsFor(name)[:1:1])
		}
		if !errors.Is(err, ErrOccupied) || c.tx.Load() == nil || time.Now().After(deadline) {
			return answer, err
		}
	}
}
