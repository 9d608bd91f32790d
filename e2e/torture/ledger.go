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

// The ledger has a row for each section of WithLockTx, with its number under that name. A section reads the
// last number without a row lock, and writes the next: only the lock keeps two from the same. So the table
// itself tells whether a stale holder has ever committed, whatever anybody's clock said.
const ledger = "test.ledger"

const makeLedger = "CREATE TABLE " + ledger + ` (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARBINARY(200) NOT NULL, number BIGINT NOT NULL,
	author VARCHAR(100) NOT NULL, KEY (name, number)) ENGINE=InnoDB`

// inTx is in the context of a section with a transaction.
type inTx struct{}

// author is who writes, as no other call does.
func (a *attempt) author() string { return fmt.Sprintf("%s #%d", a.locker.id, a.id) }

// withLockTx is withLock for a section that writes to the ledger.
func (a *attempt) withLockTx(ctx context.Context, timeout time.Duration) {
	fails := a.chance(4)
	a.called = history.Now()
	err := a.locker.WithLockTx(ctx, a.name, timeout, nil, func(ctx context.Context, tx *sql.Tx) error {
		a.section(context.WithValue(ctx, inTx{}, true), func() bool {
			a.own = a.write(ctx, tx)
			return a.own == nil
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
	a.audit(err)
}

// write appends to the ledger.
func (a *attempt) write(ctx context.Context, tx *sql.Tx) error {
	if a.locker.setup.far { // where nobody may answer, which ends no statement
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
	}
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
			flaws = append(flaws, "it matches ErrLost, which says that nothing is committed")
		}
		return history.Lost, flaws
	case errors.Is(err, namedlock.ErrLost):
		return history.Lost, nil
	case a.own != nil && a.own != errOwn:
		// A statement has failed. If it was cut off the server frees the lock when it ends, and nobody is told.
		return history.Panicked, nil
	}
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		// The same, where the context, or the one of write, ended just as a statement did: the driver closes the
		// connection all the same, and the context of the section has ended by then.
		return history.Panicked, nil
	}
	return history.Clean, nil // committed, refused, or rolled back
}

// audit asks the ledger whether err was right.
func (a *attempt) audit(err error) {
	if !a.begun || errors.Is(err, namedlock.ErrCommitUnknown) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var rows int
	if failed := a.worker.witness.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+ledger+" WHERE author = ? AND name = ?", a.author(), a.name).Scan(&rows); failed != nil {
		return // the server is away
	}
	if err == nil && rows != 1 {
		a.worker.flaw("what WithLockTx returns is so", "%s: committed, and %d rows are there", a.author(), rows)
	}
	if err != nil && rows != 0 && !strings.Contains(err.Error(), "after the transaction was committed") {
		a.worker.flaw("what WithLockTx returns is so", "%s: %v, and %d rows are there", a.author(), err, rows)
	}
}

// auditLedger looks for what a stale holder would leave: two with one number, a gap, another order.
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
}
