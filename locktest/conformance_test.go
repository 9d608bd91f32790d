package locktest

import (
	"database/sql"
	"testing"
	"testing/synctest"
)

// The Locker of this package keeps the promises.
func TestConformance(t *testing.T) {
	t.Parallel()
	Run(t, started)
}

// It keeps them in bubbles too, and nothing is left in them.
func TestConformance_InBubbles(t *testing.T) {
	t.Parallel()
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { p.run(t, started) })
		})
	}
}

func started(t *testing.T) func() Process {
	l := New()
	db := sql.OpenDB(emptyDB{})
	l.TxFrom(db)
	t.Cleanup(func() {
		l.Close()
		db.Close()
	})
	return func() Process { return ProcessOf(l.Peer()) }
}
