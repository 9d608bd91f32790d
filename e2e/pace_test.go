package e2e

import (
	"fmt"
	"sync"
	"time"

	"github.com/go-namedlock/namedlock/internal/lateness"
)

// pace is by how much this machine's crowd stretches what tests configure.
var pace struct {
	mu      sync.Mutex
	longest time.Duration // of what a second was stretched to, so far
	asked   time.Time
}

// paced returns d, stretched so that a server that has to share its processors
// answers in time. It never becomes less while a test waits: what it returns
// grows with the crowd, and does not shrink again.
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

// seconds is paced for what servers know in seconds alone, such as a
// wait_timeout, or a lease.
func seconds(d time.Duration) time.Duration {
	d = paced(d)
	if rest := d % time.Second; rest != 0 {
		d += time.Second - rest
	}
	return d
}

// waitTimeout is the parameter of a DSN that sets a session's wait_timeout.
func waitTimeout(d time.Duration) string { return fmt.Sprintf("wait_timeout=%.0f", d.Seconds()) }

// often is the interval between two proofs, WithKeepAlive, in tests that wait
// for some.
func often() time.Duration { return paced(500 * time.Millisecond) }

// twoIntervals is within what a loss that no socket shows is noticed.
func twoIntervals() time.Duration { return 2 * often() }
