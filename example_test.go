package namedlock_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	_ "github.com/go-sql-driver/mysql"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

var (
	db     *sql.DB
	locker *namedlock.Locker
)

func runReport(context.Context) error { return nil }

func transfer(_ context.Context, from, to string) error { return nil }

// One lock around one function, in whichever process it runs. Make the Locker
// once, at the start of the program, and share it.
func Example() {
	db, err := sql.Open("mysql", "app:secret@tcp(db.internal:3306)/app?charset=utf8mb4")
	if err != nil {
		log.Fatal(err)
	}
	locker, err := namedlock.Open(db)
	if err != nil {
		log.Fatal(err)
	}
	defer locker.Close()

	err = locker.WithLock(context.Background(), "nightly-report", 5*time.Second, func(ctx context.Context) error {
		return runReport(ctx)
	})
	if err != nil {
		log.Print(err)
	}
}

// With New all locks are on one connection that you own. Close the Locker
// before the connection.
func ExampleNew() {
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	locker, err := namedlock.New(conn)
	if err != nil {
		log.Fatal(err)
	}
	defer locker.Close()

	err = locker.WithLock(ctx, "nightly-report", 5*time.Second, runReport)
	if err != nil {
		log.Print(err)
	}
}

// The transaction begins and commits inside the lock. Otherwise the next holder
// could run before the commit, and not see its writes.
func ExampleLocker_WithLock() {
	ctx := context.Background()
	err := locker.WithLock(ctx, "invoice-numbers", 5*time.Second, func(ctx context.Context) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = 'invoice'"); err != nil {
			return err
		}
		return tx.Commit()
	})
	if err != nil {
		log.Print(err)
	}
}

// A timeout of 0 tries exactly once: the second caller does not wait.
func ExampleLocker_WithLock_tryOnce() {
	err := locker.WithLock(context.Background(), "cache-refresh", 0, func(ctx context.Context) error {
		return runReport(ctx)
	})
	if errors.Is(err, namedlock.ErrTimeout) && !errors.Is(err, namedlock.ErrNoSession) {
		return // another process is refreshing the cache
	}
	if err != nil {
		log.Print(err)
	}
}

// For writes to the same server. The lock and the transaction are on one
// session, so that a process that has lost the lock cannot commit. The counter
// needs no FOR UPDATE.
func ExampleLocker_WithLockTx() {
	next := 0
	err := locker.WithLockTx(context.Background(), "invoice-number", 5*time.Second, nil, func(ctx context.Context, tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, "SELECT MAX(number) + 1 FROM invoices").Scan(&next); err != nil {
			return err // rolled back
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO invoices (number) VALUES (?)", next)
		return err // nil: committed, then released
	})
	switch committed(err) {
	case namedlock.TxCommitted:
		fmt.Println("invoice", next)
	case namedlock.TxUnknown:
		fmt.Println("is there an invoice", next, "or not? Look:", err)
	default:
		fmt.Println("nothing is written:", err)
	}
}

// committed returns the outcome of the transaction of WithLockTx or WithTx,
// whose error is err. It is for a function that does not end its transaction
// itself.
func committed(err error) namedlock.TxOutcome {
	var e *namedlock.Error
	switch {
	case err == nil:
		return namedlock.TxCommitted
	case errors.Is(err, namedlock.ErrTxEnded): // first, since the function may return an Error of its own
		return namedlock.TxUnknown
	case errors.As(err, &e):
		return e.Tx
	}
	return namedlock.TxNotCommitted // the function's own error
}

// The outcome of the transaction decides whether to repeat it: only if nothing
// is committed. Here the lock is lost in the middle of the first attempt.
func ExampleTxOutcome() {
	ctx := context.Background()
	locks, stop := withoutServer() // in production, what namedlock.Open returns
	defer stop()
	attempt := 0
	bill := func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO bills (customer) VALUES (42)")
		if attempt++; attempt == 1 {
			locks.Lose("billing") // as a KILL does
		}
		return err
	}

	for range 3 {
		err := locks.WithLockTx(ctx, "billing", 5*time.Second, nil, bill)
		switch outcome := committed(err); outcome {
		case namedlock.TxCommitted:
			fmt.Println("billed") // also if err says that the lock was lost after the commit
			return
		case namedlock.TxUnknown:
			fmt.Println("look for the bill before it is written again:", err)
			return
		default: // TxNone, TxNotCommitted
			fmt.Println("again:", outcome)
		}
	}
	// Output:
	// again: not committed
	// billed
}

// withoutServer returns a Locker without a server, and a db for two
// transactions, of which the second is committed.
func withoutServer() (*locktest.Locker, func()) {
	db, mock, err := sqlmock.New()
	if err != nil {
		log.Fatal(err)
	}
	mock.ExpectBegin()
	mock.ExpectExec("INSERT").WillReturnResult(sqlmock.NewResult(1, 1))
	mock.ExpectRollback()
	mock.ExpectBegin()
	mock.ExpectExec("INSERT").WillReturnResult(sqlmock.NewResult(1, 1))
	mock.ExpectCommit()
	locks := locktest.New()
	locks.TxFrom(db)
	return locks, func() {
		_ = locks.Close()
		_ = db.Close()
	}
}

// The lock stays held between the transactions. After a loss none is committed.
func ExampleLocker_WithTerm() {
	customers := []int64{1, 2, 3}
	err := locker.WithTerm(context.Background(), "billing", 5*time.Second, func(ctx context.Context, term *namedlock.Term) error {
		for _, customer := range customers {
			err := term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, "INSERT INTO invoices (customer) VALUES (?)", customer)
				return err
			})
			if err != nil {
				return err // the earlier transactions are committed
			}
		}
		return nil
	})
	if err != nil {
		fmt.Println("not all customers are billed:", err)
	}
}

// The value that fn returns is there only if its transaction was committed, or
// may have been. A value that fn assigns to a variable outside would survive a
// rollback.
func ExampleDoTx() {
	number, err := namedlock.DoTx(context.Background(), locker, "invoice-number", 5*time.Second, nil, func(ctx context.Context, tx *sql.Tx) (int64, error) {
		result, err := tx.ExecContext(ctx, "INSERT INTO invoices () VALUES ()")
		if err != nil {
			return 0, err
		}
		return result.LastInsertId()
	})
	fmt.Println("invoice", number, err)
}

// At most four exports run at a time, on all machines together, in the order in
// which they were asked for.
func ExampleLocker_WithSlot() {
	err := locker.WithSlot(context.Background(), "export", 4, time.Minute, func(ctx context.Context, slot int) error {
		return runReport(ctx) // slot is 0 to 3: the number of a port or a directory, for example
	})
	if errors.Is(err, namedlock.ErrTimeout) {
		fmt.Println("try later:", err)
	}
}

// Each of n partitions is owned by one worker of all processes. Start as many
// workers as you like: those without a partition wait. If a worker ends, or its
// process or machine is gone, a waiting worker gets its partition.
func ExampleLocker_WithSlot_partitions() {
	const partitions = 3
	locks := locktest.New() // in production, what namedlock.Open returns
	ctx, stop := context.WithCancel(context.Background())
	owned := make(chan int)
	var workers sync.WaitGroup
	for range partitions + 2 {
		workers.Go(func() {
			for ctx.Err() == nil {
				err := locks.WithSlot(ctx, "consumer", partitions, namedlock.Forever, func(ctx context.Context, partition int) error {
					owned <- partition
					<-ctx.Done() // consume the partition, until ctx ends: by stop, or by a loss
					return nil
				})
				if err != nil && ctx.Err() == nil {
					time.Sleep(time.Second) // and log err: the server is away, or the partition was lost
				}
			}
		})
	}
	for range partitions {
		fmt.Println("partition", <-owned, "has an owner")
	}
	locks.Lose("consumer#1") // as a crash does
	fmt.Println("partition", <-owned, "has another")
	stop()
	workers.Wait()
	_ = locks.Close()
	// Unordered output:
	// partition 0 has an owner
	// partition 1 has an owner
	// partition 2 has an owner
	// partition 1 has another
}

// A loop that runs in one process of many, for as long as they live. Its writes
// through its term are committed by the leader, or never.
func ExampleLocker_Lead() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := locker.Lead(ctx, "scheduler", func(ctx context.Context, term *namedlock.Term) error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done(): // the process ends, or the lock is lost
				return nil
			case <-tick.C:
			}
			err := term.WithTx(ctx, nil, func(ctx context.Context, tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, "INSERT INTO runs (job, at) SELECT job, NOW() FROM jobs WHERE due <= NOW()")
				return err
			})
			switch committed(err) {
			case namedlock.TxCommitted:
			case namedlock.TxUnknown:
				return err // resigns: a repetition might write the same runs twice
			default:
				log.Print(err) // nothing is written: the next tick tries again, unless ctx has ended
			}
		}
	})
	if !errors.Is(err, context.Canceled) {
		log.Print("leads no more: ", err)
	}
}

// A lock that does not begin and end in one function. Its context ends when it
// is released or lost.
func ExampleLocker_Acquire() {
	lock, err := locker.Acquire(context.Background(), "shard-17", namedlock.Forever)
	if err != nil {
		log.Fatal(err)
	}
	defer func() {
		if err := lock.Release(); err != nil {
			log.Print(err) // another caller may have held the lock in the meantime
		}
	}()
	if err := runReport(lock.Context()); err != nil {
		log.Print(err)
	}
}

// A function under the lock that returns a value.
func ExampleDo() {
	number, err := namedlock.Do(context.Background(), locker, "invoice-numbers", 5*time.Second, func(ctx context.Context) (n int, err error) {
		err = db.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = 'invoice'").Scan(&n)
		return n, err
	})
	if err != nil {
		log.Print(err)
		return
	}
	log.Print("the next invoice is number ", number+1)
}

// Both accounts or neither. A caller that asks for the same two in the other
// order waits, and neither deadlocks.
func ExampleLocker_WithLocks() {
	from, to := "account-17", "account-4"
	err := locker.WithLocks(context.Background(), []string{from, to}, 5*time.Second, func(ctx context.Context) error {
		return transfer(ctx, from, to)
	})
	var e *namedlock.Error
	if errors.Is(err, namedlock.ErrTimeout) && errors.As(err, &e) {
		log.Print(e.Name, " is busy") // the other account is free again
	}
}

// A service. At its start, Check reports a server that is not suitable. On
// SIGTERM the work is told to end, and calls that wait for a lock end with
// ErrClosed. Shutdown waits until the locks are released, but no longer than
// the deploy does.
//
// A process that is killed before that also frees its locks at once: the server
// detects that its connections close.
func ExampleLocker_Shutdown() {
	locker, err := namedlock.Open(db)
	if err != nil {
		log.Fatal(err)
	}
	if err := locker.Check(context.Background()); err != nil {
		log.Print(err) // a replica, a cluster, a wrong password, a server that is down
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	const shortest, longest = time.Second, time.Minute
	for pause := shortest; ctx.Err() == nil; {
		err := locker.WithLock(ctx, "shard-17", namedlock.Forever, runReport)
		if err == nil {
			pause = shortest
			continue
		}
		log.Print(err)
		select { // the server may be down: no call waits for that
		case <-time.After(pause):
			pause = min(2*pause, longest)
		case <-ctx.Done():
		}
	}

	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := locker.Shutdown(ending); err != nil {
		log.Print(err) // names the locks whose code does not end
	}
}

// The holder of one lock, the holders of all locks whose names begin with a
// prefix, and the holder that a wait has timed out on.
func ExampleLocker_Holder() {
	ctx := context.Background()
	if holder, held, err := locker.Holder(ctx, "nightly-report"); err == nil && held {
		log.Print("KILL ", holder.ConnectionID, " would free it: ", holder)
	}

	holders, err := locker.Holders(ctx, "customer:")
	if errors.Is(err, namedlock.ErrUnsupported) {
		log.Print(err) // says what to install or to grant
	}
	for _, holder := range holders {
		log.Print(holder.Name, " is held by ", holder)
	}

	err = locker.WithLock(ctx, "nightly-report", 5*time.Second, runReport)
	var e *namedlock.Error
	if errors.As(err, &e) && e.Holder != nil {
		log.Print("busy: ", e.Holder.Program, " has it on ", e.Holder.Host)
	}
}

// One lock for each customer: two customers are billed at the same time, but
// one customer is never billed twice at once. SafeName returns a valid name for
// any customer's id.
func ExampleLocker_WithLock_perCustomer() {
	locker := locktest.New() // in production, what namedlock.Open returns
	defer locker.Close()
	ctx := context.Background()
	bill := func(customer string, fn func(ctx context.Context) error) error {
		return locker.WithLock(ctx, namedlock.SafeName("bill", customer), 0, fn)
	}

	_ = bill("Émile & fils", func(context.Context) error {
		fmt.Println("billing Émile & fils")
		done := make(chan error)
		go func() { // another request
			done <- bill("zeta", func(context.Context) error {
				fmt.Println("billing zeta meanwhile")
				return nil
			})
			done <- bill("Émile & fils", func(context.Context) error { return nil })
		}()
		fmt.Println("zeta:", <-done)
		fmt.Println("Émile & fils once more:", errors.Is(<-done, namedlock.ErrTimeout))
		return nil
	})
	// Output:
	// billing Émile & fils
	// billing zeta meanwhile
	// zeta: <nil>
	// Émile & fils once more: true
}

// Any strings give one name, which every server stores unchanged. A plain
// string stays as it is.
func ExampleSafeName() {
	fmt.Println(namedlock.SafeName("nightly-report"))
	fmt.Println(namedlock.SafeName("customer", "Émile & fils"))
	// Output:
	// nightly-report
	// customer:mile-f-hkkvhh7ceq7dgad6k2jz7k277tkka3qs
}

// The meaning of the errors, and their origin: fn may acquire locks of its own,
// whose errors are returned from WithLock as any other error of fn.
func ExampleError() {
	err := locker.WithLock(context.Background(), "import", 5*time.Second, func(ctx context.Context) error {
		return locker.WithLock(ctx, "customer-42", time.Second, runReport)
	})

	var e *namedlock.Error
	switch {
	case err == nil:
	case errors.As(err, &e) && e.Op == namedlock.OpAcquire && e.Name == "import" && errors.Is(err, namedlock.ErrNoSession):
		// Nothing has run, and the lock may be free: the db has too few
		// connections.
	case errors.As(err, &e) && e.Op == namedlock.OpAcquire && e.Name == "import":
		// Nothing has run. ErrTimeout: another process is importing.
	case errors.Is(err, namedlock.ErrLost):
		// The code ran, but not alone to the end. Check its effects.
	case errors.Is(err, namedlock.ErrTimeout):
		// The import began, and then customer-42 could not be locked.
	case errors.Is(err, namedlock.ErrUnavailable):
		// The import began, and then the server could not be asked for customer-42.
	default:
		// An error of fn itself, or one of the rarer ones.
	}
}

// A biller acquires locks, so it takes an Interface, with the one method that
// it calls, and not a *Locker.
type biller struct{ locks namedlock.Interface }

func (b biller) Bill(ctx context.Context, customer int) error {
	return b.locks.WithLock(ctx, fmt.Sprintf("bill-%d", customer), time.Second, func(ctx context.Context) error {
		fmt.Println("billing", customer)
		return nil
	})
}

// free is a lock that is always free; busy is one that never is.
type free struct{}

func (free) WithLock(ctx context.Context, _ string, _ time.Duration, fn func(ctx context.Context) error) error {
	return fn(ctx)
}

type busy struct{}

func (busy) WithLock(_ context.Context, name string, _ time.Duration, _ func(ctx context.Context) error) error {
	return &namedlock.Error{Op: namedlock.OpAcquire, Name: name, Err: namedlock.ErrTimeout}
}

// If it does not matter how the lock behaves, a test double has three lines.
// Otherwise use the Locker of package locktest, which needs no server: its
// locks can be lost, for example, or be held by another caller for a while.
func ExampleInterface() {
	ctx := context.Background()
	fmt.Println(biller{free{}}.Bill(ctx, 42))
	fmt.Println(biller{busy{}}.Bill(ctx, 42))
	// Output:
	// billing 42
	// <nil>
	// namedlock: acquire "bill-42": not acquired in time
}
