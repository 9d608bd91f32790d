package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/e2e/internal/history"
)

// The ledger has a row for each transaction of WithLockTx and WithTerm, with
// its number under that name. A transaction reads the last number without a row
// lock, and writes the next number. Only the lock keeps two transactions from
// writing the same number. Therefore the table itself shows whether a stale
// holder has ever committed. It also shows whether the lock was held between
// the transactions of a term, independent of any clock.
const ledger = "test.ledger"

const makeLedger = "CREATE TABLE " + ledger + ` (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARBINARY(200) NOT NULL, number BIGINT NOT NULL,
	author VARCHAR(100) NOT NULL, KEY (name, number)) ENGINE=InnoDB`

// inTx is the key of a value in the context of a section with a transaction.
type inTx struct{}

// author returns the author for the rows of this call, which no other call
// uses.
func (a *attempt) author() string { return fmt.Sprintf("%s #%d", a.locker.id, a.id) }

// withLockTx is withLock for a section that writes to the ledger.
func (a *attempt) withLockTx(ctx context.Context, timeout time.Duration) {
	fails := a.chance(4)
	a.called = history.Now()
	err := a.locker.WithLockTx(ctx, a.name, timeout, nil, func(ctx context.Context, tx *sql.Tx) error {
		ctx = context.WithValue(ctx, inTx{}, true)
		a.section(ctx, func() {
			if a.own = a.write(ctx, tx); a.own == nil {
				a.work(ctx)
			}
		})
		if fails && a.own == nil {
			a.own = errOwn
		}
		return a.own
	})
	e := history.Event{At: history.Now()}
	e.Outcome, e.Flaws = a.judgeTx(ctx, err)
	if err != nil {
		e.Error = err.Error()
	}
	a.finish(e)
	switch {
	case !a.begun || errors.Is(err, namedlock.ErrCommitUnknown):
	case err == nil || strings.Contains(err.Error(), "the transaction was committed; "):
		a.audit(err, 1, 1)
	default:
		a.audit(err, 0, 0)
	}
}

// mostTransactions is the largest number of transactions in a term.
const mostTransactions = 4

// withTerm is withLockTx for a term of several transactions. Some are rolled
// back, and the term continues.
func (a *attempt) withTerm(ctx context.Context, timeout time.Duration) {
	committed, unknown := 0, 0
	transact := func(ctx context.Context, term *namedlock.Term) error {
		var ending history.Event
		err := term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
			defer func() { ending = history.Event{Kind: history.EventEnding, Call: a.id, From: history.Now()} }()
			if err := a.write(ctx, tx); err != nil {
				return err
			}
			if a.chance(4) {
				return errOwn
			}
			return nil
		})
		if ending.From != 0 {
			a.worker.record.Note(ending)
		}
		switch {
		case err == nil:
			committed++
		case errors.Is(err, namedlock.ErrCommitUnknown):
			unknown++
		case err == errOwn:
			return nil
		}
		return err
	}
	a.called = history.Now()
	err := a.locker.WithTerm(ctx, a.name, timeout, func(ctx context.Context, term *namedlock.Term) error {
		ctx = context.WithValue(ctx, inTx{}, true)
		a.section(ctx, func() {
			for range 1 + a.rand.IntN(mostTransactions) {
				if a.own = transact(ctx, term); a.own != nil {
					return
				}
				a.work(ctx)
			}
		})
		return a.own
	})
	e := history.Event{At: history.Now()}
	e.Outcome, e.Flaws = a.judgeTerm(ctx, err)
	if err != nil {
		e.Error = err.Error()
	}
	a.finish(e)
	if a.begun {
		a.audit(err, committed, committed+unknown)
	}
}

// judgeTerm is judge for WithTerm.
func (a *attempt) judgeTerm(ctx context.Context, err error) (history.Outcome, []string) {
	if !a.begun {
		return a.judge(ctx, err)
	}
	var flaws []string
	if a.own != nil && !errors.Is(err, a.own) {
		flaws = append(flaws, "the section's own error is gone")
	}
	switch {
	case !errors.Is(err, namedlock.ErrLost):
		return history.Clean, flaws // whatever the outcome of its transactions is
	case a.cutOff || ctx.Err() != nil:
		// The context, or that of write, may have ended during a statement. Then the
		// driver closes the connection.
		return history.Panicked, flaws
	}
	return history.Lost, flaws
}

// write appends a row to the ledger.
func (a *attempt) write(ctx context.Context, tx *sql.Tx) error {
	// A silent network ends no statement.
	if a.locker.setup.far {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
	}
	defer func() { a.cutOff = a.cutOff || ctx.Err() == context.DeadlineExceeded }()
	var last sql.NullInt64
	if err := tx.QueryRowContext(ctx, "SELECT MAX(number) FROM "+ledger+" WHERE name = ?", a.name).Scan(&last); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO "+ledger+" (name, number, author) VALUES (?, ?, ?)", a.name, last.Int64+1, a.author())
	return err
}

// judgeTx is judge for WithLockTx.
func (a *attempt) judgeTx(ctx context.Context, err error) (history.Outcome, []string) {
	if !a.begun {
		var e *namedlock.Error
		if errors.As(err, &e) && e.Op == "begin" {
			return history.Unavailable, nil
		}
		return a.judge(ctx, err)
	}
	if a.own != nil && !errors.Is(err, a.own) {
		return history.Clean, []string{"the section's own error is gone"}
	}
	switch {
	case errors.Is(err, namedlock.ErrCommitUnknown):
		var flaws []string
		if errors.Is(err, namedlock.ErrLost) {
			flaws = append(flaws, "it matches ErrLost, which means that nothing is committed")
		}
		return history.Lost, flaws
	case errors.Is(err, namedlock.ErrLost):
		return history.Lost, nil
	case a.own != nil && a.own != errOwn:
		// A statement has failed. If it was cut off, the server frees the lock when
		// the statement ends, and no caller is told.
		return history.Panicked, nil
	}
	if a.cutOff || ctx.Err() != nil || errors.Is(err, context.Canceled) {
		// The context, or that of write, ended just as a statement ended. Then the
		// driver also closes the connection, and the context of the section has ended
		// by then.
		return history.Panicked, nil
	}
	return history.Clean, nil // committed, refused, or rolled back
}

// audit compares err with the ledger: at least least, and at most most, of its
// rows are from this call.
func (a *attempt) audit(err error, least, most int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var rows int
	if failed := a.worker.witness.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+ledger+" WHERE author = ? AND name = ?", a.author(), a.name).Scan(&rows); failed != nil {
		return // the server is away
	}
	if rows < least || rows > most {
		a.worker.flaw("what is committed is what was returned", "%s: %v, and %d rows are there instead of %d to %d", a.author(), err, rows, least, most)
	}
}

// auditLedger checks for the effects of a stale holder: two rows with one
// number, a gap, or another order. It also checks for rows of other calls
// between the rows of a term.
func (d *director) auditLedger() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	rows, err := d.admin.QueryContext(ctx, "SELECT name, COUNT(*), COUNT(DISTINCT number), MAX(number) FROM "+ledger+" GROUP BY name")
	if err != nil {
		d.fail(err)
		return
	}
	defer rows.Close()
	total := 0
	for rows.Next() {
		var name string
		var all, different, last int
		if err := rows.Scan(&name, &all, &different, &last); err != nil {
			d.fail(err)
			return
		}
		total += all
		if all != different || all != last {
			d.record.Note(history.Event{Kind: history.EventFlaw, Promise: "a stale holder never commits",
				Error: fmt.Sprintf("ledger of %q: %d rows, %d numbers, the last is %d", name, all, different, last)})
		}
	}
	var disordered int
	err = errors.Join(rows.Err(), d.admin.QueryRowContext(ctx,
		"SELECT COUNT(*) FROM "+ledger+" AS a JOIN "+ledger+" AS b ON b.name = a.name AND b.number = a.number + 1 AND b.id < a.id").Scan(&disordered))
	switch {
	case err != nil:
		d.fail(err)
	case disordered > 0:
		d.record.Note(history.Event{Kind: history.EventFlaw, Promise: "a stale holder never commits", Error: fmt.Sprintf("%d rows of the ledger are out of order", disordered)})
	}
	d.report.ledger = total
	if err == nil {
		d.auditTerms(ctx)
	}
}

// auditTerms checks for rows of other calls between the rows of one term.
func (d *director) auditTerms(ctx context.Context) {
	rows, err := d.admin.QueryContext(ctx, tornTerms)
	if err != nil {
		d.fail(err)
		return
	}
	defer rows.Close()
	for rows.Next() {
		var name, author string
		var all, first, last int
		if err := rows.Scan(&name, &author, &all, &first, &last); err != nil {
			d.fail(err)
			return
		}
		d.record.Note(history.Event{Kind: history.EventFlaw, Promise: "the lock is held between the transactions of a term",
			Error: fmt.Sprintf("ledger of %q: %d rows of %s, from number %d to %d", name, all, author, first, last)})
	}
	if err := rows.Err(); err != nil {
		d.fail(err)
	}
}

const tornTerms = "SELECT name, author, COUNT(*), MIN(number), MAX(number) FROM " + ledger +
	" GROUP BY name, author HAVING COUNT(*) <= MAX(number) - MIN(number)"
