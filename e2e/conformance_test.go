package e2e

import (
	"testing"
	"time"

	"github.com/go-namedlock/namedlock"
	"github.com/go-namedlock/namedlock/locktest"
)

// The promises that locktest's Locker keeps also hold on real servers, so that
// neither can drift from the other.
func TestConformance(t *testing.T) {
	t.Parallel()
	everyWay(t, func(t *testing.T, at setup) { locktest.Run(t, at.processes()) })
}

// The promises also hold with hand-off. Its effects show between processes,
// under load.
func TestConformance_HandOff(t *testing.T) {
	t.Parallel()
	onEachServer(t, func(t *testing.T, srv *server) {
		locktest.Run(t, setup{srv, byOpen}.processes(namedlock.WithHandOff(10*time.Millisecond)))
	})
}

// processes returns a factory of processes that lose their locks by KILL.
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
