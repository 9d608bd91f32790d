package e2e

import (
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// What locktest says of its own Locker holds on real servers: neither can drift
// from the other.
func TestConformance(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) { locktest.Run(t, at.processes()) })
}

// Hand-off keeps the promises too: what it changes shows between processes,
// under load.
func TestConformance_HandOff(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		locktest.Run(t, setup{srv, byOpen}.processes(namedlock.WithHandOff(10*time.Millisecond)))
	})
}

// processes makes processes whose locks are lost by KILL.
func (at setup) processes(opts ...namedlock.Option) locktest.Factory {
	return func(t *testing.T) func() locktest.Process {
		f := at.foreign(t)
		return func() locktest.Process {
			p := locktest.ProcessOf(at.locker(t, opts...))
			p.Lose = func(name string) { f.kill(f.holder(name)) }
			p.LossIsFinal = at.way == byNew
			return p
		}
	}
}
