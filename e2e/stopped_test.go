//go:build unix

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/internal/lateness"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The test binary runs itself as a process that is stopped while it holds a
// lock.
const (
	stoppedDSN   = "NAMEDLOCK_E2E_STOPPED_DSN"
	stoppedWay   = "NAMEDLOCK_E2E_STOPPED_WAY"
	stoppedName  = "NAMEDLOCK_E2E_STOPPED_NAME"
	stoppedLease = "NAMEDLOCK_E2E_STOPPED_LEASE"
)

func init() {
	if os.Getenv(stoppedDSN) != "" {
		debug.SetTraceback("all")
		time.AfterFunc(patience, func() { panic("the test process takes too long") })
		if err := holdWhileStopped(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// A report is the output of such a process after it has been resumed.
type report struct {
	Took    time.Duration // from the resume to the end of its lock's context
	Allowed time.Duration // atOnce, and the machine's lateness in this time
	Lost    bool          // the context's cause and WithLock's error match ErrLost
}

func holdWhileStopped() error {
	seconds, err := strconv.Atoi(os.Getenv(stoppedLease))
	if err != nil {
		return err
	}
	lease := time.Duration(seconds) * time.Second
	db, err := openDB(os.Getenv(stoppedDSN))
	if err != nil {
		return err
	}
	defer db.Close()
	var l *namedlock.Locker
	if os.Getenv(stoppedWay) == byOpen {
		l, err = namedlock.Open(db, namedlock.WithLease(lease))
	} else {
		conn, failed := db.Conn(background)
		if failed != nil {
			return failed
		}
		defer conn.Close()
		l, err = namedlock.New(conn, namedlock.WithLease(lease))
	}
	if err != nil {
		return err
	}
	defer l.Close()
	var r report
	err = l.WithLock(background, os.Getenv(stoppedName), 0, func(ctx context.Context) error {
		ended := make(chan time.Time, 1)
		go func() {
			<-ctx.Done()
			ended <- time.Now()
		}()
		began := time.Now()
		fmt.Println("held")
		resumed := awaitResumed(began)
		r.Allowed = atOnce + lateness.Of(func() {
			select {
			case end := <-ended:
				r.Took = end.Sub(resumed)
			case <-time.After(patience / 4):
				r.Took = patience // it has not ended
			}
		})
		r.Lost = errors.Is(context.Cause(ctx), namedlock.ErrLost)
		return nil
	})
	r.Lost = r.Lost && errors.Is(err, namedlock.ErrLost)
	return json.NewEncoder(os.Stdout).Encode(r)
}

// awaitResumed returns after this process has been stopped since last. It
// returns the moment from which the process ran again.
func awaitResumed(last time.Time) time.Time {
	for {
		time.Sleep(time.Millisecond)
		now := time.Now()
		if now.Sub(last) > time.Second {
			return now
		}
		last = now
	}
}

// A process is stopped for longer than its lease, and another session gets the
// lock. When the process is resumed, it is told at once.
func TestPromise14_StoppedProcessIsToldWhenItRunsOn(t *testing.T) {
	t.Parallel()
	lease := int(seconds(time.Second).Seconds())
	onEachServer(t, func(t *testing.T, srv *server) {
		srv.bothWays(t, func(t *testing.T, at setup) {
			r := at.stopAndResume(t, lease)
			assert.True(t, r.Lost)
			assert.LessOrEqual(t, r.Took, r.Allowed, "told too late")
		})
	})
}

func (at setup) stopAndResume(t *testing.T, lease int) (r report) {
	t.Helper()
	f, name := at.foreign(t), newName("stopped")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), stoppedDSN+"="+at.DSN(), stoppedWay+"="+at.way, stoppedName+"="+name, stoppedLease+"="+strconv.Itoa(lease))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = t.Output()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	require.Equal(t, "held", lines.Text())
	require.NotZero(t, f.holder(name))

	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
	stopped := time.Now()
	next := begin(t, t.Context(), at.locker(t), name, namedlock.Forever)
	var ctx context.Context
	prompt(t, time.Duration(lease)*time.Second+2*time.Second, "the lock of a stopped process", func() time.Duration {
		ctx = next.holds(t)
		return time.Since(stopped)
	})
	session := f.holder(name)
	// The process must be able to detect that it was stopped.
	if d := 1500*time.Millisecond - time.Since(stopped); d > 0 {
		<-time.After(d)
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
	require.True(t, lines.Scan(), "it reports")
	require.NoError(t, json.Unmarshal(lines.Bytes(), &r), lines.Text())
	assert.NoError(t, cmd.Wait())

	requireHeld(t, ctx)
	assert.Equal(t, session, f.holder(name), "the lock of the other session is not touched")
	next.release(t)
	return r
}
