package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/lateness"
)

// pace is how much the load of this machine stretches the times that tests
// configure.
var pace struct {
	mu      sync.Mutex
	longest time.Duration // that a second was stretched to, so far
	asked   time.Time
}

// paced returns d, stretched so that a server on a busy machine answers in
// time. It never decreases while a test waits: the factor grows with the load,
// and does not shrink again.
func paced(d time.Duration) time.Duration {
	const valid = 5 * time.Second
	pace.mu.Lock()
	defer pace.mu.Unlock()
	if time.Since(pace.asked) > valid {
		pace.longest = max(pace.longest, lateness.Stretch(time.Second))
		pace.asked = time.Now()
	}
	return time.Duration(float64(d) * pace.longest.Seconds())
}

// seconds is paced for values that servers only accept in whole seconds, such
// as a wait_timeout or a lease.
func seconds(d time.Duration) time.Duration {
	d = paced(d)
	if rest := d % time.Second; rest != 0 {
		d += time.Second - rest
	}
	return d
}

// waitTimeout returns the parameter of a DSN that sets a session's
// wait_timeout.
func waitTimeout(d time.Duration) string { return fmt.Sprintf("wait_timeout=%.0f", d.Seconds()) }

// often is a WithKeepAlive for tests that wait for several keep-alives.
func often() time.Duration { return paced(500 * time.Millisecond) }

// calm is a WithKeepAlive for tests in which nothing is lost. The server has
// three quarters of it to answer. A machine that is being given its memory may
// stand still for half a second, whatever its load is.
func calm() time.Duration { return paced(2 * time.Second) }

// afterKeepAlive returns when a lock that is held with calm has had a
// keep-alive.
func afterKeepAlive() { <-time.After(calm() + calm()/4) }

// twoIntervals is the bound for a loss that no socket shows.
func twoIntervals() time.Duration { return 2 * often() }

// latenessOf runs f, and returns the time that late answers of the server may
// have added to f. For each answer, that is the worst time of a trivial
// statement while f ran.
func (s *server) latenessOf(t *testing.T, f func()) time.Duration {
	t.Helper()
	const answers, pause = 5, 5 * time.Millisecond
	conn, err := s.admin.Conn(background)
	require.NoError(t, err)
	defer conn.Close()
	stop, worst := make(chan struct{}), make(chan time.Duration, 1)
	go func() {
		slowest, ended := time.Duration(0), false
		for !ended {
			start := time.Now()
			_, _ = conn.ExecContext(background, "DO 1") // an error is found by the test
			slowest = max(slowest, time.Since(start))
			select {
			case <-stop:
				ended = true
			case <-time.After(pause):
			}
		}
		worst <- slowest
	}()
	func() {
		defer close(stop) // also if f ends the test
		f()
	}()
	return answers * <-worst
}
