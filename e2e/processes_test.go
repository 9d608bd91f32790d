package e2e

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The test binary runs itself as a worker, another process that acquires locks.
const (
	workerJob    = "NAMEDLOCK_E2E_WORKER"
	workerDSN    = "NAMEDLOCK_E2E_DSN"
	workerWay    = "NAMEDLOCK_E2E_WAY"
	workerName   = "NAMEDLOCK_E2E_NAME"
	workerFolder = "NAMEDLOCK_E2E_FOLDER"
	workerTable  = "NAMEDLOCK_E2E_TABLE"

	jobHold  = "hold"  // hold the lock until killed
	jobCount = "count" // take turns, and count the turns
	jobLead  = "lead"  // write to a table as its leader, until told to end
	jobSlots = "slots" // create a mark in the folder for each slot, and remove it
	jobAdd   = "add"   // add to the number in a table, in transactions under the lock

	workers   = 4
	turns     = 40  // of a counting worker
	adders    = 2   // goroutines of an adding worker
	additions = 125 // additions of each goroutine
)

// work is the main function of a worker.
func work(job string) int {
	err := func() error {
		ctx := background
		db, err := openDB(os.Getenv(workerDSN))
		if err != nil {
			return err
		}
		defer db.Close()
		if job == jobLead {
			return lead(ctx, db, os.Getenv(workerName), os.Getenv(workerTable))
		}
		var l *namedlock.Locker
		if os.Getenv(workerWay) == byNew {
			conn, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			l, err = namedlock.New(conn)
			if err != nil {
				return err
			}
		} else if l, err = namedlock.Open(db); err != nil {
			return err
		}
		defer l.Close()
		name := os.Getenv(workerName)
		switch job {
		case jobAdd:
			return add(ctx, l, name, os.Getenv(workerTable))
		case jobSlots:
			return inSlots(ctx, l, name, os.Getenv(workerFolder))
		case jobHold:
			return l.WithLock(ctx, name, namedlock.Forever, func(context.Context) error {
				fmt.Println("held")
				time.Sleep(time.Hour)
				return nil
			})
		}
		for range turns {
			if err := l.WithLock(ctx, name, time.Minute, count(os.Getenv(workerFolder))); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// count returns a section that must run alone. It adds one to a number in a
// file, not atomically, and keeps a mark in the folder while it runs.
func count(folder string) func(context.Context) error {
	return func(context.Context) error {
		mark, err := os.OpenFile(filepath.Join(folder, "mark"), os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("two at once: %w", err)
		}
		defer os.Remove(mark.Name())
		defer mark.Close()
		n, err := counted(folder)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(folder, "count"), []byte(strconv.Itoa(n+1)), 0o600)
	}
}

// add makes several callers add to the number in the table.
func add(ctx context.Context, l *namedlock.Locker, name, table string) error {
	var all sync.WaitGroup
	errs := make([]error, adders)
	for i := range errs {
		all.Go(func() { errs[i] = addInTurns(ctx, l, name, table) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// addInTurns adds one in each of its transactions. It reads without FOR UPDATE:
// only the lock keeps an addition from being lost.
func addInTurns(ctx context.Context, l *namedlock.Locker, name, table string) error {
	for range additions {
		err := l.WithLockTx(ctx, name, namedlock.Forever, nil, func(ctx context.Context, tx *sql.Tx) error {
			var n int
			if err := tx.QueryRowContext(ctx, "SELECT n FROM "+table).Scan(&n); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, fmt.Sprintf("UPDATE %s SET n = %d", table, n+1))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func counted(folder string) (int, error) {
	b, err := os.ReadFile(filepath.Join(folder, "count"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(b))
}

func (at setup) worker(t *testing.T, job, name, folder string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerJob+"="+job, workerDSN+"="+at.DSN(), workerWay+"="+at.way,
		workerName+"="+name, workerFolder+"="+folder)
	return cmd
}

// runWorkers runs all workers to their end, every other one with New.
func (srv *server) runWorkers(t *testing.T, job, name, folder string, env ...string) {
	t.Helper()
	var all []*exec.Cmd
	var outputs []*strings.Builder
	for i := range workers {
		way := []string{byOpen, byNew}[i%2]
		cmd, out := setup{srv, way}.worker(t, job, name, folder), new(strings.Builder)
		cmd.Env = append(cmd.Env, env...)
		cmd.Stdout, cmd.Stderr = out, out
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		all, outputs = append(all, cmd), append(outputs, out)
	}
	for i, cmd := range all {
		assert.NoError(t, cmd.Wait(), outputs[i])
	}
}

// Several processes, some with Open and some with New, take turns.
func TestPromise09_ProcessesTakeTurns(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		name, folder := newName("turns"), t.TempDir()
		srv.runWorkers(t, jobCount, name, folder)
		n, err := counted(folder)
		require.NoError(t, err)
		assert.Equal(t, workers*turns, n)
	})
}

// If a process is killed while it holds the lock, another process gets the
// lock.
func TestPromise15_KilledProcessLeavesTheLock(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) {
		l, name := at.locker(t), newName("killed")
		prompt(t, 2*time.Second, "the lock of a killed process", func() time.Duration {
			cmd := at.worker(t, jobHold, name, "")
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			lines := bufio.NewScanner(out)
			require.True(t, lines.Scan())
			require.Equal(t, "held", lines.Text())

			c := begin(t, t.Context(), l, name, time.Minute)
			at.awaitWaiter(t, name)
			c.waits(t)
			start := time.Now()
			require.NoError(t, cmd.Process.Kill())
			c.holds(t)
			took := time.Since(start)
			c.release(t)
			_ = cmd.Wait()
			return took
		})
	})
}
